"""Scores of answers worked out by hand, by every rule."""

import pytest

from data.questions import Question
from evaluation.answer_judging import Prediction, answer_score, judge_answers

TEN = ("red",) * 3 + ("blue",) * 2 + ("green",) * 5


def score(question: Question, answer: str, rule: str = "auto", exact: bool = False) -> float:
    return answer_score(question, answer, rule=rule, exact=exact)


def test_each_form_of_reference_has_its_rule() -> None:
    people = Question(1, ("a",), "what colour?", "green", TEN)
    assert score(people, "blue") == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)
    assert score(people, "Blue.") == score(people, "blue")
    assert score(people, "green", rule="exact") == 1.0
    labels = Question(1, ("a",), "what colour?", "red", labels={"red": 1.0, "blue": 0.3})
    assert [score(labels, answer) for answer in ("red", "blue", "green")] == [1.0, 0.3, 0.0]
    assert score(Question(1, ("a",), "?", labels={}), "red") == 0.0
    single = Question(1, ("a",), "what colour?", "Red")
    assert [score(single, " red "), score(single, " red ", exact=True), score(single, "Red", rule="exact")] == [1, 0, 1]
    with pytest.raises(ValueError, match="question 7 has no answer to score against"):
        score(Question(7, ("a",), "what colour?"), "red")


def test_a_judgement_counts_by_type_and_holds_probabilities_to_account() -> None:
    kinds = [("yes/no", "a|b"), ("yes/no", "b"), ("other", "a"), ("other", "")]
    questions = [
        Question(n, (f"picture{n // 2}",), "?", "yes", answer_type=kind, question_type=types)
        for n, (kind, types) in enumerate(kinds)
    ]
    answers = [("yes", 0.9), ("no", 0.9), ("yes", 0.5), ("no", 0.5)]
    predictions = [Prediction(((answer, share), ("maybe", 0.01))) for answer, share in answers]
    found = judge_answers(
        questions,
        predictions,
        rule="auto",
        exact=False,
        official=None,
        bootstrap=50,
        title="test",
        in_vocabulary=lambda answer: answer == "no",
    )
    metrics = found.metrics
    assert metrics["accuracy"] == metrics["accuracy (yes/no)"] == metrics["accuracy (other)"] == 0.5
    assert metrics["per_question_type"] == {"a": [1.0, 2], "b": [0.5, 2]}
    assert metrics["calibration_error"] == pytest.approx((2 * abs(0.5 - 0.9) + 2 * 0) / 4)
    assert (metrics["known_answers"], metrics["n_questions"], metrics["n_images"]) == (0.0, 4, 2)
    assert metrics["intervals"]["accuracy"] == [0.5, 0.5]  # each picture has one right and one wrong answer
    assert found.predictions[0]["scores"] == {"accuracy": 1.0, "accuracy (other)": None, "accuracy (yes/no)": 1.0}
    assert found.predictions[0]["top"] == [["yes", 0.9], ["maybe", 0.01]]


def test_pairs_are_consistent_where_every_pair_of_a_sentence_is_right() -> None:
    ids = ["dev-0-0-0", "dev-0-1-0", "dev-1-0-0"]
    questions = [Question(key, (f"{key}l", f"{key}r"), "true of both", "True") for key in ids]
    predictions = [Prediction(((answer, 0.6),)) for answer in ("True", "False", "True")]
    metrics = judge_answers(
        questions, predictions, rule="auto", exact=False, official="nlvr2", bootstrap=0, title="test"
    ).metrics
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["consistency"] == 0.5
