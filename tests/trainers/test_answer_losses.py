"""Losses of answers, worked out by hand."""

import math

import pytest
import torch

from trainers.answer_losses import ANSWER_LOSSES, best_answer_cross_entropy, binary_cross_entropy, class_cross_entropy


def test_binary_cross_entropy_is_summed_over_answers() -> None:
    logits = torch.zeros(2, 3)
    scores = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.0, 0.0]])
    assert binary_cross_entropy(logits, scores).item() == pytest.approx(3 * math.log(2))
    sure = torch.tensor([[50.0, -50.0, -50.0]])
    assert binary_cross_entropy(sure, torch.tensor([[1.0, 0.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_the_best_answer_is_the_class_and_a_question_without_one_teaches_nothing() -> None:
    logits = torch.zeros(3, 4)
    scores = torch.tensor([[0.3, 0.9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.0]])
    assert best_answer_cross_entropy(logits, scores).item() == pytest.approx(4 * math.log(4))
    logits = torch.tensor([[9.0, 0.0]], requires_grad=True)
    loss = best_answer_cross_entropy(logits, torch.zeros(1, 2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_classes_that_are_not_known_do_not_count() -> None:
    logits = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    assert class_cross_entropy(logits, torch.tensor([1, -1])).item() == pytest.approx(math.log(2))
    assert class_cross_entropy(logits, torch.tensor([-1, -1])).item() == 0


def test_losses_have_names() -> None:
    assert {"bce", "mce", "kl"} <= set(ANSWER_LOSSES)
