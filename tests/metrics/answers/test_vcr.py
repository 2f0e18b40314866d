"""VCR's three accuracies, by hand."""

import pytest

from metrics.answers.vcr import vcr_scores

LABELS = {"a": 0, "b": 1, "c": 3}
ANSWERS = {"a": [0.4, 0.3, 0.2, 0.1], "b": [0.1, 0.7, 0.1, 0.1], "c": [0.7, 0.1, 0.1, 0.1]}
REASONS = {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.1, 0.7, 0.1, 0.1], "c": [0.0, 0.0, 0.0, 1.0]}


def test_both_together_need_both_right() -> None:
    found = vcr_scores(LABELS, LABELS, ANSWERS, REASONS)
    assert found.named() == pytest.approx({"Q->A": 2 / 3, "QA->R": 2 / 3, "Q->AR": 1 / 3})
    assert vcr_scores(LABELS, {}, ANSWERS, None).named() == pytest.approx({"Q->A": 2 / 3})


def test_a_question_without_probabilities() -> None:
    with pytest.raises(ValueError, match=r"question c has no answer \(1 of 3\)"):
        vcr_scores(LABELS, LABELS, {"a": [1.0], "b": [1.0]}, None)
    with pytest.raises(ValueError, match="no questions"):
        vcr_scores({}, {}, {}, None)
