"""Submissions, written, read and scored."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.questions import Question
from evaluation.answer_scoring import score_submission, score_text
from evaluation.submissions import read_submission, submission_text, write_submission


def asked(*keys: int | str) -> list[Question]:
    return [Question(key, ("a",), "?") for key in keys]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("kind", "answers", "text"),
    [
        ("vqa", {7: "net"}, '[\n    {\n        "answer": "net",\n        "question_id": 7\n    }\n]'),
        ("gqa", {"07": "net"}, '[\n    {\n        "prediction": "net",\n        "questionId": "07"\n    }\n]'),
        ("nlvr2", {"dev-0-0-0": "true", "dev-0-1-0": "False"}, "dev-0-0-0,True\ndev-0-1-0,False\n"),
        ("clevr", {0: "yes", 1: ""}, "yes\n\n"),
    ],
)
def test_each_form_is_written_and_read_back(tmp_path: Path, kind: str, answers: dict, text: str) -> None:
    path = tmp_path / "submission"
    write_submission(kind, asked(*answers), answers, path)
    assert path.read_text() == text
    assert [answer.lower() for answer in read_submission(kind, path).values()] == [a.lower() for a in answers.values()]
    assert list(read_submission(kind, path)) == list(answers)


def test_a_question_without_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    with pytest.raises(ValueError, match=r"question 8 has no answer \(2 of 3\)"):
        write_submission("vqa", asked(7, 8, 9), {7: "net"}, path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="the answer is 'maybe': it must be True or False"):
        submission_text("nlvr2", asked("a"), {"a": "maybe"})
    with pytest.raises(ValueError, match="no questions"):
        submission_text("gqa", [], {})
    with pytest.raises(ValueError, match="no submission of kind 'vcr'"):
        submission_text("vcr", asked(1), {1: "a"})


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("vqa", "{}", "expected a list of records"),
        ("vqa", '[{"question_id": 1}]', "record 0: key 'answer' is missing"),
        ("gqa", '[{"questionId": "1", "prediction": 3}]', "key 'prediction': expected a string, found 3"),
        ("vqa", '[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]', "1 is answered twice"),
        ("nlvr2", "dev-0-0-0;True", "line 1: expected identifier,True"),
        ("nlvr2", "dev-0-0-0,yes", "line 1: expected identifier,True"),
    ],
)
def test_files_of_another_form(tmp_path: Path, kind: str, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_submission(kind, write(tmp_path / "submission", content))


def _annotation(key: int, *answers: str, ids: bool = True) -> dict[str, Any]:
    notes = [{"answer": answer} | ({"answer_id": number} if ids else {}) for number, answer in enumerate(answers)]
    return {"question_id": key, "answers": notes, "answer_type": "other", "question_type": "what"}


def test_vqa_is_scored_officially(tmp_path: Path) -> None:
    rows = [_annotation(1, *["red"] * 3, *["blue"] * 7), _annotation(2, *["red"] * 3, *["blue"] * 7, ids=False)]
    references = write(tmp_path / "a.json", {"annotations": rows})
    given = [{"question_id": key, "answer": "red"} for key in (1, 2)]
    predictions = write(tmp_path / "p.json", given)
    # 90 with ids; without, the three "red" leave together: 7 / 10
    found = score_submission("vqa", references, predictions)
    assert found == {
        "overall": 80.0,
        "perAnswerType": {"other": 80.0},
        "perQuestionType": {"what": 80.0},
        "questions": 2,
    }
    assert "overall: 80.0" in score_text("vqa", found)
    write(predictions, given[:1])
    with pytest.raises(ValueError, match="question 2 has no answer"):
        score_submission("vqa", references, predictions)
    write(predictions, [*given, {"question_id": 3, "answer": "red"}])
    with pytest.raises(ValueError, match="question 3 is not among the annotations"):
        score_submission("vqa", references, predictions)


def test_gqa_leaves_consistency_out_where_it_cannot_be_known(tmp_path: Path) -> None:
    question = {
        "answer": "yes",
        "question": "Is it?",
        "isBalanced": True,
        "entailed": ["2"],
        "groups": {"global": None},
        "types": {"structural": "verify", "semantic": "attr", "detailed": "x"},
        "semantic": [],
    }
    predictions = write(tmp_path / "p.json", [{"questionId": key, "prediction": "yes"} for key in "12"])
    references = write(tmp_path / "q.json", {"1": question})
    found = score_submission("gqa", references, predictions)
    assert found["accuracy"] == 100
    assert "consistency" not in found
    write(references, {"1": question, "2": question | {"isBalanced": False, "answer": "no"}})
    assert score_submission("gqa", references, predictions)["consistency"] == 0
    choices = write(tmp_path / "c.json", {"1": {"valid": ["yes"], "plausible": []}})
    found = score_submission("gqa", references, predictions, choices=choices)
    assert (found["validity"], found["plausibility"]) == (100, 0)
    assert score_text("gqa", found).startswith("Binary: 100.00%")
    write(references, {"1": {"answer": "yes"}})
    with pytest.raises(ValueError, match=r"q.json: key 'isBalanced' is missing"):
        score_submission("gqa", references, predictions)


def test_nlvr_of_pairs_examples_and_images(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", '{"identifier": "dev-0-0-0", "label": "True"}\n')
    found = score_submission("nlvr2", pairs, write(tmp_path / "p.csv", "dev-0-0-0,true\n"))
    assert found == {"accuracy": 1.0, "consistency": 1.0, "examples": 1}
    examples = write(tmp_path / "dev.jsonl", '{"identifier": "4-0", "label": "true"}\n')
    assert score_submission("nlvr1", examples, write(tmp_path / "p.csv", "4-0,False"))["accuracy"] == 0
    images = "".join(f"dev-4-0-{number}.png,{number < 3}\n" for number in range(6))
    found = score_submission("nlvr1", examples, write(tmp_path / "p.csv", images))
    assert found == {"accuracy": 0.5, "consistency": 0.0, "examples": 6}


def test_clevr_by_family(tmp_path: Path) -> None:
    rows = [{"question": "?", "image_index": 0, "answer": "2", "program": [{"function": "count"}]}]
    references = write(tmp_path / "q.json", {"questions": rows})
    found = score_submission("clevr", references, write(tmp_path / "p.txt", "2\n"))
    assert found["families"]["Count"] == {"correct": 1, "total": 1, "percent": 100.0}
    assert score_text("clevr", found) == "Overall : 1 / 1 = 100.00\nCount : 1 / 1 = 100.00"
    with pytest.raises(ValueError, match="different lengths"):
        score_submission("clevr", references, write(tmp_path / "p.txt", "2\n3\n"))


def test_refusals_of_the_call() -> None:
    with pytest.raises(ValueError, match="no score of kind 'gqb'"):
        score_submission("gqb", "a", "b")
    with pytest.raises(ValueError, match="choices are given for kind 'vqa'"):
        score_submission("vqa", "a", "b", choices="c")
    with pytest.raises(ValueError, match="b: no such file"):
        score_submission("vqa", "a", "b")
