"""Answers as targets."""

import pytest
import torch

from data.questions.records import Question
from data.questions.vocabulary import AnswerVocabulary
from preprocessors.soft_targets import answer_target

VOCABULARY = AnswerVocabulary(["cat", "2", "dog"], normalise="vqa")
TEN = ("the cat",) * 5 + ("two",) * 2 + ("2",) + ("horse",) * 2


def test_scores_and_shares_by_hand() -> None:
    """Five of ten say cat, three say 2 in two spellings, two something else."""
    question = Question(1, ("a",), "what?", answers=TEN)
    assert answer_target(question, VOCABULARY, "bce").tolist() == pytest.approx([1.0, 0.9, 0.0])
    assert answer_target(question, VOCABULARY, "kld").tolist() == pytest.approx([0.5, 0.3, 0.0])


def test_a_single_answer() -> None:
    question = Question(1, ("a",), "what?", answer="dog")
    assert answer_target(question, VOCABULARY, "bce").tolist() == [0, 0, 1]
    assert answer_target(question, VOCABULARY, "kld").tolist() == [0, 0, 1]
    target = answer_target(question, VOCABULARY, "ce")
    assert (target.tolist(), target.dtype) == ([2], torch.int64)


def test_an_answer_that_is_not_there() -> None:
    question = Question("q7", ("a",), "what?", answer="horse")
    assert answer_target(question, VOCABULARY, "bce").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="question q7: its answer 'horse' is not in the vocabulary of 3"):
        answer_target(question, VOCABULARY, "ce")
    with pytest.raises(ValueError, match="'mse' is unknown"):
        answer_target(question, VOCABULARY, "mse")
