"""What a file says twice is named: no dictionary that is filled from a file overwrites silently."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data import read_split
from data.pictures import Pictures
from data.questions.plain import read_plain
from data.questions.vocabulary import AnswerVocabulary
from data.questions.vqa import read_vqa
from models.ofa.styles import StyleMap
from sweeps.search import read_sweep
from tests.conftest import SHARED, needs_shared


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(*images: tuple[Any, str]) -> dict[str, Any]:
    ids = {image_id for image_id, _ in images}
    return {
        "images": [{"id": image_id, "file_name": name} for image_id, name in images],
        "annotations": [{"image_id": image_id, "caption": "a"} for image_id in ids],
    }


@pytest.mark.parametrize("second", [1, "1", 1.0])
def test_a_coco_id_of_two_files(tmp_path: Path, second: Any):
    file = write(tmp_path / "a.json", coco((1, "p0.jpg"), (2, "p1.jpg"), (second, "p2.jpg")))
    with pytest.raises(ValueError, match=r"images, record 2: image id 1 means both p0.jpg and p2.jpg"):
        read_split("train", format="coco", annotations=file, image_dir=tmp_path)


def test_a_coco_image_that_is_listed_twice_alike_is_one(tmp_path: Path):
    file = write(tmp_path / "a.json", coco((1, "p0.jpg"), (1, "p0.jpg")))
    assert read_split("train", format="coco", annotations=file, image_dir=tmp_path).n_images == 1


@needs_shared
def test_the_case_that_went_unnoticed(tmp_path: Path):
    file = SHARED / "cases" / "coco" / "duplicate_image_ids.json"
    with pytest.raises(ValueError, match=r"image id 1 means both p00.jpg and p02.jpg"):
        read_split("train", format="coco", annotations=file, image_dir=tmp_path)


def test_a_question_that_is_annotated_twice(tmp_path: Path):
    questions = write(tmp_path / "q.json", {"questions": [{"question_id": 1, "image_id": 3, "question": "what?"}]})
    note = {"question_id": 1, "answers": [{"answer": "dog"}]}
    annotations = write(tmp_path / "a.json", {"annotations": [note, note | {"answers": [{"answer": "cat"}]}]})
    with pytest.raises(ValueError, match="annotations, record 1: question 1 is annotated by annotations, record 0"):
        list(read_vqa(questions, annotations))


@pytest.mark.parametrize("read", [lambda path: list(read_plain(path)), read_sweep])
def test_a_column_that_stands_twice(tmp_path: Path, read: Any):
    file = write(tmp_path / "a.csv", "train.lr,image,question,train.lr\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"train.lr'? stands twice"):
        read(file)


def test_a_picture_that_is_packed_twice(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/1.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("images/1.jpg", b"2")
    with pytest.raises(ValueError, match=r"it has 'images/1.jpg' twice"):
        Pictures(tmp_path / "a.zip")


def test_styles_and_answers_that_stand_twice(tmp_path: Path):
    file = write(tmp_path / "a.json", '{"Sweet": "<code_0>", "Sour": "<code_1>", "Sweet": "<code_2>"}')
    with pytest.raises(ValueError, match="'Sweet' stands twice"):
        StyleMap.from_json(file)
    with pytest.raises(ValueError, match="'yes'"):
        AnswerVocabulary.read(write(tmp_path / "b.json", ["yes", "no", "yes"]))
