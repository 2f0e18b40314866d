"""The doctor of questions: faults, warnings and leaks."""

import json

import pytest

from data.questions import AnswerVocabulary, Question, Questions
from data.questions.doctor import drop_bad, examine, find_leaks


def split(name: str, *rows: tuple[int, str, str, str]) -> Questions:
    return Questions(name, [Question(key, (image,), text, answer) for key, image, text, answer in rows])


@pytest.fixture
def train() -> Questions:
    return split(
        "train", (1, "a", "Who?", "me"), (1, "b", "?!", "you"), (2, "gone", "Why?", ""), (3, "a", "How?", "so")
    )


def test_faults_and_warnings(train: Questions) -> None:
    report = examine({"train": train}, vocabulary=AnswerVocabulary(["me", "you"]), has_image={"a", "b"}.__contains__)
    found = report.splits["train"]
    assert found.faults == {"missing_image": 1, "empty": 1, "duplicate_id": 1}
    assert found.warnings == {"no_answer": 1, "unknown_answer": 1}
    assert {kind: rows.tolist() for kind, rows in found.rows.items()} == {
        "missing_image": [2],
        "empty": [1],
        "duplicate_id": [1],
        "no_answer": [2],
        "unknown_answer": [3],
    }
    assert not report.healthy
    assert json.loads(json.dumps(report.to_json()))["splits"]["train"]["questions"] == 4
    assert "FAULT questions whose picture is missing: 1\n    question 2: gone" in report.to_text()


def test_features_are_asked_for_by_name(train: Questions) -> None:
    report = examine({"train": train}, has_feature=lambda image: image != "b")
    assert report.splits["train"].faults == {"missing_feature": 1, "empty": 1, "duplicate_id": 1}


def test_dropping_counts_each_question_once(train: Questions) -> None:
    report = examine({"train": train}, has_image={"a", "b"}.__contains__).splits["train"]
    kept, skipped = drop_bad(train, report)
    assert [question.text for question in kept] == ["Who?", "How?"]
    assert skipped == {"missing_image": 1, "empty": 1, "duplicate_id": 0}
    with pytest.raises(ValueError, match="every question is at fault"):
        drop_bad(train, examine({"train": train}, has_image=lambda image: False).splits["train"])


def test_leaks_of_pictures_and_of_questions() -> None:
    train = split("train", (1, "a", "Who  is it?", "me"), (2, "b", "Why?", "so"))
    val = split("val", (3, "a", "who is it?", "me"), (4, "a", "Where?", "here"), (5, "c", "Why?", "so"))
    (leak,) = find_leaks({"train": train, "val": val})
    assert (leak.first, leak.second, leak.images, leak.second_questions, leak.second_repeated) == (
        "train",
        "val",
        1,
        2,
        1,
    )
    text = examine({"train": train, "val": val}).to_text()
    assert "LEAK train -> val: 1 shared pictures, 2 questions of val about them, of which 1 repeat a question" in text


def test_a_pair_leaks_by_either_picture() -> None:
    one = Questions("train", [Question(1, ("a", "b"), "Both?")])
    other = Questions("val", [Question(2, ("b", "c"), "Both?")])
    (leak,) = find_leaks({"train": one, "val": other})
    assert (leak.images, leak.second_repeated) == (1, 0)


def test_healthy_splits_say_so() -> None:
    report = examine({"train": split("train", (1, "a", "Who?", "me")), "val": split("val", (2, "b", "Who?", "me"))})
    assert report.healthy
    assert report.to_text().endswith("no leaks")
    assert report.splits["train"].top_answers == {"me": 1.0}
