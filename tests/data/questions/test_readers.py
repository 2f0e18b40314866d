"""Every format of questions, and what is said of files that are wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.questions import Question, Questions, read_questions
from data.questions.records import QuestionId
from tests.conftest import SHARED, needs_shared


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def ids(questions: Questions) -> list[QuestionId]:
    return [question.question_id for question in questions]


def test_vqa_with_annotations(tmp_path: Path) -> None:
    head = {"data_type": "mscoco", "data_subtype": "val2014"}
    asked = write(
        tmp_path / "q.json", head | {"questions": [{"question_id": 7, "image_id": 42, "question": "What is it?"}]}
    )
    note: dict[str, Any] = {"question_id": 7, "answer_type": "other", "question_type": "what is"}
    note["answers"] = [{"answer": answer, "answer_id": number} for number, answer in enumerate(["cat", "dog", "dog"])]
    answers = write(tmp_path / "a.json", {"annotations": [note]})
    expected = Question(
        7, ("COCO_val2014_000000000042",), "What is it?", "dog", ("cat", "dog", "dog"), None, "other", "what is"
    )
    assert list(read_questions("val", format="vqa", questions=asked, annotations=answers)) == [expected]
    write(answers, {"annotations": [note | {"multiple_choice_answer": "cat"}]})
    assert read_questions("val", format="vqa", questions=asked, annotations=answers)[0].answer == "cat"
    assert read_questions("val", format="vqa", questions=asked)[0].references == ()
    write(answers, {"annotations": []})
    with pytest.raises(ValueError, match=r"q.json: questions, record 0: question 7 has no annotation in .*a.json"):
        read_questions("val", format="vqa", questions=asked, annotations=answers)


def test_test_dev_pictures_are_test_pictures(tmp_path: Path) -> None:
    content = {"data_subtype": "test-dev2015", "questions": [{"question_id": 1, "image_id": 1, "question": "?"}]}
    found = read_questions("test", format="vqa", questions=write(tmp_path / "q.json", content))
    assert found[0].images == ("COCO_test2015_000000000001",)


def test_lxmert_labels(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question_id": 1, "img_id": "a", "sent": "Who?", "label": {"3": 0.3, "2": 1}},
        {"question_id": "07", "img_id": "b", "sent": "Why?"},
        {"question_id": 3, "img_id": "b", "sent": "How?", "label": {}},
    ]
    found = read_questions("train", format="lxmert", questions=write(tmp_path / "q.json", rows))
    assert [(question.question_id, question.answer, question.labels) for question in found] == [
        (1, "2", {"3": 0.3, "2": 1.0}),
        ("07", "", None),
        (3, "", {}),
    ]
    rows[0]["label"] = {"2": 1.5}
    with pytest.raises(ValueError, match="record 0: key 'label': the score of '2' is 1.5"):
        read_questions("train", format="lxmert", questions=write(tmp_path / "q.json", rows))


def test_lxmert_pairs(tmp_path: Path) -> None:
    row = {"uid": "u0", "identifier": "dev-0-0-1", "img0": "a", "img1": "b", "sent": "Both.", "label": 0}
    (found,) = read_questions("valid", format="lxmert-nlvr2", questions=write(tmp_path / "q.json", [row]))
    assert (found.images, found.answer, found.extra) == (("a", "b"), "False", {"uid": "u0"})
    with pytest.raises(ValueError, match="expected 0 or 1, found 2"):
        read_questions("valid", format="lxmert-nlvr2", questions=write(tmp_path / "q.json", [row | {"label": 2}]))


def test_lxmert_pretraining_has_captions_and_questions(tmp_path: Path) -> None:
    row = {"img_id": "a", "sentf": {"mscoco": ["A cat."], "vqa": ["What?"]}, "labelf": {"vqa": [{"cat": 1.0}]}}
    found = read_questions("train", format="lxmert-pretraining", questions=write(tmp_path / "q.json", [row]))
    assert [(question.question_type, question.labels) for question in found] == [
        ("mscoco", None),
        ("vqa", {"cat": 1.0}),
    ]
    row["labelf"] = {"vqa": []}
    with pytest.raises(ValueError, match="source 'vqa' has 1 sentences and 0 labels"):
        read_questions("train", format="lxmert-pretraining", questions=write(tmp_path / "q.json", [row]))


def test_gqa_keeps_what_the_metrics_need(tmp_path: Path) -> None:
    row = {
        "imageId": "n1",
        "question": "Is it?",
        "answer": "yes",
        "isBalanced": True,
        "types": {"structural": "verify"},
    }
    (found,) = read_questions("val", format="gqa", questions=write(tmp_path / "q.json", {"05": row}))
    assert (found.question_id, found.images, found.answer_type, found.question_type) == (
        "05",
        ("n1",),
        "binary",
        "verify",
    )
    assert found.extra == {"isBalanced": True, "types": {"structural": "verify"}}


def test_nlvr2_lines_packed_or_not(tmp_path: Path) -> None:
    row = {"identifier": "dev-8-2-1", "sentence": "Both.", "label": "True", "synset": "cat"}
    path = tmp_path / "dev.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row).encode()))
    (found,) = read_questions("dev", format="nlvr2", questions=path)
    assert (found.images, found.answer) == (("dev-8-2-img0", "dev-8-2-img1"), "True")
    with pytest.raises(ValueError, match="line 1: identifier 'x' is not split-set-pair-sentence"):
        read_questions("dev", format="nlvr2", questions=lines(tmp_path / "x.jsonl", row | {"identifier": "x"}))


def test_nlvr1_shows_the_boxes_in_every_order(tmp_path: Path) -> None:
    row = {"identifier": "4-1", "sentence": "A box.", "label": "false", "structured_rep": [["a"], ["b"], ["c"]]}
    found = read_questions("dev", format="nlvr1", questions=lines(tmp_path / "dev.jsonl", row))
    assert ids(found) == [f"dev-4-1-{number}.png" for number in range(6)]
    assert [question.extra["boxes"] for question in found][3] == [["b"], ["c"], ["a"]]
    assert found[0].images == ("4-1-0",)


def test_clevr_programs(tmp_path: Path) -> None:
    rows = [
        {
            "question": "How many?",
            "image_filename": "CLEVR_val_000001.png",
            "answer": "3",
            "program": [{"function": "count"}],
        },
        {"question": "Is it?", "image_index": 4},
    ]
    found = read_questions("val", format="clevr", questions=write(tmp_path / "q.json", {"questions": rows}))
    assert [(question.images[0], question.question_type) for question in found] == [
        ("CLEVR_val_000001", "count"),
        ("4", ""),
    ]
    with pytest.raises(ValueError, match="neither 'image_filename' nor 'image_index'"):
        read_questions("val", format="clevr", questions=write(tmp_path / "q.json", {"questions": [{"question": "?"}]}))


def test_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", query=["is a square red"], answer=[False], layout=["(is square red)"])
    (found,) = read_questions("val", format="shapes", questions=tmp_path / "val.npz")
    assert (found.images, found.text, found.answer) == (("val-0",), "is a square red", "false")


def test_visual_genome(tmp_path: Path) -> None:
    row = {"id": 5, "qas": [{"qa_id": 9, "image_id": 5, "question": "Where?", "answer": "At sea."}]}
    (found,) = read_questions("vg", format="visual-genome", questions=write(tmp_path / "q.json", [row]))
    assert (found.question_id, found.images, found.answer) == (9, ("5",), "At sea.")


def test_own_json_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "own.jsonl",
        {
            "qid": 3,
            "image": "a.jpg",
            "question": "Who?",
            "answers": ["me", "you", "you"],
            "question_type": ["A", "B"],
            "fold": 1,
        },
        {"image": 7, "question": "Is it?", "answer": True, "fold": 2},
    )
    first, second = read_questions("train", format="plain", questions=path)
    assert (first.question_id, first.answer, first.answers) == (3, "you", ("me", "you", "you"))
    assert (first.question_type, first.extra) == ("A|B", {"fold": 1})
    assert (second.question_id, second.images, second.answer) == (1, ("7",), "true")
    only = read_questions("train", format="plain", questions=path, only={"fold": [2]})
    assert len(only) == 1
    assert ids(read_questions("train", format="plain", questions=path, exclude={"fold": ["2"]})) == [3]
    with pytest.raises(ValueError, match="no question has 'organ'"):
        read_questions("train", format="plain", questions=path, only={"organ": ["HEAD"]})


def test_own_csv_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text('bild,frage,answers,split\na.png,"Was, bitte?",eins|zwei|zwei,train\nb.png,Wo?,,test\n')
    columns = {"image": "bild", "question": "frage"}
    (found,) = read_questions("train", format="plain", questions=path, columns=columns)
    assert (found.images, found.text, found.answer) == (("a.png",), "Was, bitte?", "zwei")
    (found,) = read_questions("test", format="plain", questions=path, columns=columns)
    assert found.references == ()


def test_own_pairs(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", {"image": "a", "image2": "b", "question": "Both?"})
    assert read_questions("train", format="plain", questions=path)[0].images == ("a", "b")
    lines(path, {"images": ["a", "b"], "question": "Both?"})
    assert read_questions("train", format="plain", questions=path)[0].images == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a", "question": "?"', "line 1: broken JSON"),
        ('{"image": "a", "answer": "b"}', "line 1: no column 'question'"),
        ('{"question": "a"}', "line 1: no column 'image'"),
        ('{"image": "a", "question": 5}', "line 1: key 'question': expected a string, found 5"),
        ('{"images": ["a", "b", "c"], "question": "?"}', "line 1: 3 images"),
        ("[1]", "line 1: expected an object"),
        ("", "the split has no questions"),
    ],
)
def test_own_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_questions("train", format="plain", questions=path)


def test_csv_rows_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("image,question\na.png\n")
    with pytest.raises(ValueError, match="line 2: not as many cells"):
        read_questions("train", format="plain", questions=path)


def test_refusals_of_the_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.format is 'coco'"):
        read_questions("train", format="coco", questions="x")
    with pytest.raises(ValueError, match="x.json: no such file"):
        read_questions("train", format="lxmert", questions="x.json")
    with pytest.raises(ValueError, match="1 annotation files for 2 files of vqa questions"):
        read_questions("train", format="vqa", questions=["a", "b"], annotations="c")
    with pytest.raises(ValueError, match="columns are given for format 'gqa'"):
        read_questions("train", format="gqa", questions="a", columns={"image": "x"})
    with pytest.raises(ValueError, match="columns: unknown column 'picture'"):
        read_questions("train", format="plain", questions="a", columns={"picture": "x"})
    with pytest.raises(ValueError, match="expected a list of records"):
        read_questions("train", format="lxmert", questions=write(tmp_path / "q.json", {}))
    (tmp_path / "q.json").write_text('[{"img_id": }]')
    with pytest.raises(ValueError, match="broken JSON, line 1 column 13"):
        read_questions("train", format="lxmert", questions=tmp_path / "q.json")


def test_several_files_one_after_the_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.json", [{"question_id": n, "img_id": "a", "sent": "?"}]) for n in (1, 2)]
    assert ids(read_questions("train", format="lxmert", questions=paths)) == [1, 2]


def test_a_split_is_a_sequence_of_records() -> None:
    rows = [Question(n, (f"{n % 2}",), f"text {n} \ud800", "a", extra={"deep": [{"x": 1}]}) for n in range(5)]
    split = Questions("train", rows)
    assert list(split) == rows
    assert (split[-1], ids(split[1:3]), ids(split.take([4, 0]))) == (rows[4], [1, 2], [4, 0])
    assert split.image_ids == ("0", "1")
    assert split.tally("answer") == {"a": 5}
    with pytest.raises(IndexError):
        split[5]
    with pytest.raises(ValueError, match="train: the split has no questions"):
        split.take([])


@needs_shared
@pytest.mark.parametrize(
    ("format", "file", "count"),
    [
        ("plain", "vqa_rad/train.jsonl", 3064),
        ("plain", "easy_vqa/train.jsonl", 38575),
        ("shapes", "shapes/val.npz", 1024),
        ("nlvr1", "nlvr1/hidden.jsonl", 5910),
        ("nlvr2", "nlvr2_text/test1.jsonl.gz", 6967),
        ("gqa", "format_examples/gqa_questions.json", 1),
        ("vqa", "format_examples/vqav2_questions.json", 3),
        ("visual-genome", "format_examples/vgqa_question_answers.json", 8),
    ],
)
def test_shared_data(format: str, file: str, count: int) -> None:
    assert len(read_questions("x", format=format, questions=SHARED / "data" / file)) == count
