import json
from collections import Counter
from pathlib import Path

import pytest

from data import read_split, read_styles
from data.readers import canonical_style
from tests.conftest import SHARED, needs_shared

RECORD = {"personality": "Sweet", "image_hash": "abc", "comment": "so lovely"}


def _read(tmp_path: Path, content, *, format: str = "personality", name: str = "train", **options):
    file = tmp_path / "train.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_split(name, format=format, annotations=file, image_dir=tmp_path, **options)


def _styles(tmp_path: Path, *names: str) -> Path:
    file = tmp_path / "personalities.txt"
    file.write_text("\n".join(names) + "\n", encoding="utf-8")
    return file


def test_personality_records_of_one_image_and_style_are_each_others_references(tmp_path):
    records = [
        RECORD | {"additional_comments": ["ah", "oh"]},
        RECORD | {"image_hash": "def"},
        RECORD | {"comment": "später"},
        RECORD | {"personality": "Dull", "comment": "meh"},
    ]
    split = _read(tmp_path, records, image_suffix=".png")
    assert len(split) == 6
    assert split.n_images == 2
    assert split.styles == ("Dull", "Sweet")
    assert split[0].image == str(tmp_path / "abc.png")
    assert split[0].references == ("so lovely", "ah", "oh", "später")
    assert split[2].caption == "oh"
    assert [(s.style, s.caption) for s in split][4] == ("Dull", "meh")


def test_the_style_list_decides_order_and_spelling(tmp_path):
    records = [RECORD | {"personality": name} for name in ("sweet", "COOL", "Cool", "cool", "Swet")]
    split = _read(tmp_path, records, styles=_styles(tmp_path, "Sweet", "Cool", "", "cool", "Dull"))
    assert split.styles == ("Sweet", "Cool", "cool", "Dull")
    # "COOL" could be either of two styles and "Swet" is none: neither is guessed.
    assert Counter(s.style for s in split) == {"Sweet": 1, "COOL": 1, "Cool": 1, "cool": 1, "Swet": 1}
    assert split.unknown_styles == ("COOL", "Swet")


def test_canonical_style_prefers_the_exact_name():
    canonical = canonical_style(["Cool", "cool", "Sweet"])
    assert [canonical(name) for name in ("cool", "Cool", "SWEET", "x")] == ["cool", "Cool", "Sweet", "x"]


COCO = {
    "images": [{"id": 7, "file_name": "a/7.jpg"}, {"id": 9, "file_name": "9.jpg"}],
    "annotations": [
        {"image_id": 9, "caption": "nine"},
        {"image_id": 7, "caption": "seven"},
        {"image_id": 9, "caption": "neuf"},
    ],
}


def test_coco_captions(tmp_path):
    split = _read(tmp_path, COCO, format="coco")
    assert [(s.image_id, s.style, s.caption) for s in split] == [
        ("9", "Factual", "nine"),
        ("9", "Factual", "neuf"),
        ("7", "Factual", "seven"),
    ]
    assert split[2].image == str(tmp_path / "a/7.jpg")
    assert split[0].references == ("nine", "neuf")


def _karpathy(split: str, name: str, **more):
    return {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": f"the {name}"}], **more}


def test_karpathy_split_selects_and_restval_trains(tmp_path):
    content = {
        "images": [
            _karpathy("train", "a", filepath="val2014", cocoid=12),
            _karpathy("restval", "b"),
            _karpathy("val", "c"),
        ]
    }
    train = _read(tmp_path, content, format="karpathy", default_style="Plain")
    assert [(s.image_id, s.style, s.caption) for s in train] == [("12", "Plain", "the a"), ("b", "Plain", "the b")]
    assert train[0].image == str(tmp_path / "val2014/a.jpg")
    assert [s.caption for s in _read(tmp_path, content, format="karpathy", name="val")] == ["the c"]
    with pytest.raises(ValueError, match=r"no image of split 'test' \(the file has restval, train, val\)"):
        _read(tmp_path, content, format="karpathy", name="test")


def test_sentences_of_senticap_have_their_sentiment_as_style(tmp_path):
    sentences = [{"raw": "a dull dog", "sentiment": 0}, {"raw": "a nice dog", "sentiment": 1}, {"raw": "a dog"}]
    split = _read(tmp_path, {"images": [_karpathy("train", "a", sentences=sentences)]}, format="karpathy")
    assert [(s.style, s.caption) for s in split] == [
        ("Negative", "a dull dog"),
        ("Positive", "a nice dog"),
        ("Factual", "a dog"),
    ]
    assert split.styles == ("Factual", "Negative", "Positive")
    wrong = {"images": [_karpathy("train", "a", sentences=[{"raw": "a dog", "sentiment": 2}])]}
    with pytest.raises(ValueError, match=r"sentence 0, key 'sentiment': expected 0 \(negative\) or 1"):
        _read(tmp_path, wrong, format="karpathy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"personality": "Sweet",', "broken JSON, line 1 column"),
        ({}, "top level: expected a list of records, found {}"),
        ([RECORD, 3], "record 1: expected an object, found 3"),
        ([{"personality": "Sweet", "image_hash": "a"}], r"record 0: key 'comment' is missing \(it has 'personality'"),
        ([RECORD | {"image_hash": 12}], "record 0, key 'image_hash': expected a string, found 12"),
        ([RECORD | {"additional_comments": "x"}], "key 'additional_comments': expected a list, found"),
        ([RECORD | {"additional_comments": ["x", None]}], "key 'additional_comments': expected a list of strings"),
        ([], "the split is empty"),
    ],
)
def test_wrong_personality_files_say_what_and_where(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        _read(tmp_path, content)
    assert str(tmp_path / "train.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("coco", [], "top level: expected an object"),
        ("coco", {"images": []}, "key 'annotations' is missing"),
        (
            "coco",
            {"images": [], "annotations": [{"image_id": 1, "caption": "x"}]},
            "record 0, key 'image_id': 1 is not",
        ),
        ("coco", {"images": [{"id": True, "file_name": "x"}], "annotations": []}, "expected an integer or a string"),
        ("karpathy", {"images": [{"split": "train"}]}, "images, record 0: key 'filename' is missing"),
        (
            "karpathy",
            {"images": [_karpathy("train", "a", sentences=[{}])]},
            "record 0, sentence 0: key 'raw' is missing",
        ),
        ("karpathy", {"images": [_karpathy("train", "a", sentences=[])]}, "the split is empty"),
    ],
)
def test_wrong_coco_and_karpathy_files_say_what_and_where(tmp_path, format, content, message):
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, content, format=format)


def test_binary_annotations_are_an_error_too(tmp_path):
    (tmp_path / "train.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="cannot read the annotations"):
        read_split("train", format="personality", annotations=tmp_path / "train.json", image_dir=tmp_path)


def test_missing_files_and_wrong_names_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: no such annotation file: set data\.train"):
        read_split("train", format="personality", annotations=tmp_path / "none.json", image_dir=tmp_path)
    with pytest.raises(ValueError, match=r"nowhere: the image folder does not exist: set data\.image_dir"):
        read_split("train", format="personality", annotations=tmp_path, image_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data\.format is 'csv': choose one of personality, coco"):
        _read(tmp_path, [], format="csv")
    with pytest.raises(ValueError, match="'Factual' is not in this list"):
        _read(tmp_path, COCO, format="coco", styles=_styles(tmp_path, "Sweet"))


def test_style_lists_with_faults_are_errors(tmp_path):
    assert read_styles(_styles(tmp_path, "\ufeffCalm", "", " Kind (Warm) ")) == ("Calm", "Kind (Warm)")
    with pytest.raises(ValueError, match="line 3: 'Calm' stands on line 1 already"):
        read_styles(_styles(tmp_path, "Calm", "Kind", "Calm"))
    with pytest.raises(ValueError, match="the style list is empty"):
        read_styles(_styles(tmp_path, "", ""))
    with pytest.raises(ValueError, match="cannot read the style list"):
        read_styles(tmp_path / "none.txt")


@needs_shared
def test_real_photographs_are_all_read():
    folder = SHARED / "data/flickrstyle"
    train, val = (
        read_split(
            name,
            format="personality",
            annotations=folder / f"{name}.json",
            image_dir=folder / "images",
            styles=folder / "personalities.txt",
        )
        for name in ("train", "val")
    )
    assert (len(train), train.n_images, len(train.requests())) == (42_000, 6_000, 18_000)
    assert val.n_images == 499
    assert train.styles == ("Factual", "Humorous", "Romantic")
    assert train.unknown_styles == ()
    assert set(train.image_ids).isdisjoint(val.image_ids)


@needs_shared
def test_the_real_trait_list_is_read():
    traits = read_styles(SHARED / "data/personality_captions_personalities.txt")
    assert len(traits) == 215
    assert traits[1] == "Appreciative (Grateful)"
