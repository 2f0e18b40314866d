"""References of every form, without a picture and without a name of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.references import read_references

PLAIN = [
    {"image_id": 7, "caption": "a dog"},
    {"image_id": "7", "caption": "the dog"},
    {"image_id": 8.0, "caption": "a cat"},
]
FORMS: dict[str, Any] = {
    "a list": PLAIN,
    "lines": "\n".join(map(json.dumps, PLAIN)),
    "lines with gaps": "\n\n".join(map(json.dumps, PLAIN)) + "\n",
    "by image": {"7": ["a dog", "the dog"], "8": ["a cat"]},
    "by image, as pycocoevalcap": {"7": [{"caption": "a dog"}, {"caption": "the dog"}], " 8": [{"caption": "a cat"}]},
    "coco": {"images": [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}], "annotations": PLAIN},
    "coco without pictures": {"annotations": PLAIN},
    "coco without names": {"images": [{"id": 7}, {"id": 8}], "annotations": PLAIN},
    "karpathy": {
        "images": [
            {"filename": "7.jpg", "split": "test", "sentences": [{"raw": "a dog"}, {"raw": "the dog"}]},
            {"filename": "8.jpg", "split": "test", "sentences": [{"raw": "a cat"}]},
        ]
    },
}


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_captions_in_every_form(form: str, tmp_path: Path):
    split = read_references(write(tmp_path / "r.json", FORMS[form]), split="test", image_dir="nowhere")
    found = {sample.image_id: sample.references for sample in split.requests()}
    assert found == {"7": ("a dog", "the dog"), "8": ("a cat",)}


def test_styles_are_told_apart_and_forgiven(tmp_path: Path):
    content = [
        {"image_id": 1, "caption": "a", "style": "Merry"},
        {"image_id": 1, "caption": "b", "style": "Sour"},
        {"image_id": 2, "caption": "c", "style": "merry "},
    ]
    file = write(tmp_path / "r.json", content)
    split = read_references(file, split="test", image_dir=".", styles=["Merry", "Sour"])
    assert [(one.image_id, one.style) for one in split.requests()] == [("1", "Merry"), ("1", "Sour"), ("2", "Merry")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}, "both a and b"),
        ([{"image_id": 1}], 'record 0: expected {"image_id", "caption"}'),
        ([{"image_id": True, "caption": "a"}], 'record 0: "image_id" must be'),
        ([{"image_id": 1, "caption": "a", "style": 3}], 'record 0: "style" must be'),
        ({"1": "a", "2": [3]}, "image '2': expected a list of captions"),
        ('{"1": ["a"], "1": ["b"]}', "'1' stands twice"),
        ([], "the split is empty"),
        ("3", "r.json holds 3: give Personality-Captions, COCO"),
        ('{"image_id": 1, "caption": "a"}\n{"image_id"', "line 2 is not JSON"),
        ("", "is not JSON"),
        ("[" * 5000, "r.json"),
    ],
)
def test_what_is_no_reference_file(content: Any, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message) as caught:
        read_references(write(tmp_path / "r.json", content), split="test", image_dir=".")
    assert "r.json" in str(caught.value)
    assert "\n" not in str(caught.value)
