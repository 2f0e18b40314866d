"""Answers as TRAR's files have them: normalised strings, and ten answers scored by both evaluators."""

from typing import Any

import pytest

from data.questions import AnswerVocabulary, Question
from data.questions.answer_text import normalise_answer, strip_punctuation, strip_whitespace
from metrics.answers import vqa
from tests.parity.conftest import Golden


def _has(key: str, part: str) -> Any:
    return lambda content: isinstance(content, dict) and part in content.get(key, {})


@pytest.mark.goldens("answers*", system="trar", when=_has("accuracy", "official_v2"))
@pytest.mark.parametrize(
    ("name", "rule", "marked"),
    [
        ("official_v2", "official", True),
        ("original", "openvqa", True),
        ("original_without_answer_id", "openvqa", False),
    ],
)
def test_ten_answers_by_either_evaluator(golden: Golden, name: str, rule: vqa.Rule, marked: bool) -> None:
    expected = golden.json["accuracy"].get(name)
    if expected is None:
        return
    cases = [
        vqa.Case(
            row["predicted"],
            row["answers"],
            row["answer_type"],
            row["question_type"],
            None if marked else [None] * len(row["answers"]),
        )
        for row in golden.json["accuracy"]["groups"]
    ]
    found = vqa.vqa_scores(cases, rule)
    assert [vqa.percent([score]) for score in found.each] == expected["per_question"]
    assert found.overall == expected["overall"]
    assert found.per_question_type == expected["perQuestionType"]
    assert found.per_answer_type == expected["perAnswerType"]


@pytest.mark.goldens(
    "answers*", system="trar", when=lambda content: isinstance(content, dict) and "normalise" in content
)
def test_normalised_strings(golden: Golden) -> None:
    for row in golden.json["normalise"]:
        assert normalise_answer(row["text"]) == row["evaluator"], row
        assert strip_punctuation(row["text"]) == row["punctuation_only"], row
        assert normalise_answer(strip_whitespace(row["text"])) == row["prep_ans"], row


@pytest.mark.goldens("answer_list*", system="trar", when=lambda content: "multiple_choice_answer_counts" in content)
def test_the_answer_list(golden: Golden) -> None:
    """Annotations stand answer by answer; the even ones are the first split's, which is counted first."""
    counts = golden.json["multiple_choice_answer_counts"]
    given = [answer for answer, count in counts.items() for _ in range(count)]
    questions = [Question(number, ("a",), "?", answer) for number, answer in enumerate(given[::2] + given[1::2])]
    found = AnswerVocabulary.build(questions, min_count=9, normalise="vqa", order="appearance")
    assert {answer: row for row, answer in enumerate(found)} == golden.json["ans_to_ix"]
