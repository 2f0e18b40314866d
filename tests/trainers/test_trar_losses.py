"""Losses of answers by hand."""

import math

import pytest
import torch
from torch import Tensor

from trainers.trar_losses import answer_loss, answer_units

LOGITS = torch.log(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))  # softmax 1/4 3/4 and 1/2 1/2


def test_sums_by_hand() -> None:
    """Sigmoids are 1/2, 3/4 and twice 2/3."""
    targets = torch.tensor([[1.0, 0.0], [0.3, 0.0]])
    bce = -(math.log(1 / 2) + math.log(1 / 4) + 0.3 * math.log(2 / 3) + 0.7 * math.log(1 / 3) + math.log(1 / 3))
    assert answer_loss(LOGITS, targets).item() == pytest.approx(bce, rel=1e-5)
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    kld = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75) + math.log(1 / 0.5)
    assert answer_loss(LOGITS, shares, "kld").item() == pytest.approx(kld, rel=1e-5)
    for numbers in (torch.tensor([1, 0]), torch.tensor([[1], [0]])):
        assert answer_loss(LOGITS, numbers, "ce").item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2), rel=1e-5)


@pytest.mark.parametrize(("kind", "name"), [("bce", "BCEWithLogitsLoss"), ("ce", "CrossEntropyLoss")])
def test_units_make_a_mean_of_the_sum(kind: str, name: str) -> None:
    targets = torch.tensor([1, 0]) if kind == "ce" else torch.rand(2, 2)
    mean = getattr(torch.nn, name)()(LOGITS, targets)
    assert (answer_loss(LOGITS, targets, kind) / answer_units(LOGITS, kind)).item() == pytest.approx(mean.item())


def test_parts_of_a_batch_add_up_to_its_sum() -> None:
    targets = torch.rand(2, 2)
    parts = [answer_loss(LOGITS[row, None], targets[row, None]) for row in range(2)]
    assert torch.stack(parts).sum().item() == pytest.approx(answer_loss(LOGITS, targets).item())
    assert sum(answer_units(LOGITS[row, None]) for row in range(2)) == answer_units(LOGITS)


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        ("mse", torch.rand(2, 2), "'mse' is unknown; choose one of bce, kld, ce"),
        ("bce", torch.rand(2, 3), r"needs scores of shape \[2, 2\]; the targets are float32 of shape \[2, 3\]"),
        ("ce", torch.rand(2, 2), "needs one answer number a sample"),
        ("ce", torch.tensor([1]), "needs one answer number a sample"),
    ],
)
def test_targets_that_do_not_fit(kind: str, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer_loss(LOGITS, targets, kind)
