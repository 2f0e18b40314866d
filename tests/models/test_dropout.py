"""Dropout on a CPU: its rate, its scale, its gradient, and that a seed repeats it."""

import pytest
import torch

from models.ofa.dropout import Dropout


@pytest.mark.parametrize(("p", "dtype"), [(0.1, torch.float32), (0.5, torch.float32), (0.15, torch.bfloat16)])
def test_rate_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(400, 501, dtype=dtype))
    assert dropped.dtype == dtype
    kept = dropped[dropped != 0]
    assert kept.unique().numel() == 1
    # 200,400 draws: a standard deviation of the share is at most 0.0011; the rate is rounded to 1/256
    assert 1 - kept.numel() / dropped.numel() == pytest.approx(p, abs=0.002 + 1 / 512)
    assert dropped.float().mean() == pytest.approx(1, abs=0.01)


def test_neither_rows_nor_columns_are_dropped_together() -> None:
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(640, 640)) == 0).double()
    for axis in (0, 1):  # shares of 640 draws each: a standard deviation of 0.02
        assert dropped.mean(axis).std() == pytest.approx(0.5 / 640**0.5, rel=0.15)
    pairs = (dropped[:, :-1] * dropped[:, 1:]).mean()  # neighbours, most of which share a draw
    assert pairs == pytest.approx(0.25, abs=0.004)


def test_the_gradient_goes_where_the_value_went() -> None:
    torch.manual_seed(2)
    x = torch.randn(7, 3, requires_grad=True)  # 21: not a multiple of eight
    dropped = Dropout(0.3)(x)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad * x, dropped)
    assert 0 < (dropped == 0).sum() < 21


def test_a_seed_repeats_it_and_evaluation_has_none() -> None:
    layer, x = Dropout(0.4), torch.randn(5, 8)
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [1e-6, 0.0005, 0.0019, 0.9985, 0.9999, 1.0])
def test_rates_that_a_byte_cannot_hold(p: float) -> None:
    torch.manual_seed(4)
    dropped = Dropout(p)(torch.ones(400, 501))
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(p, abs=0.0012)
    if p < 1:
        assert dropped.mean() == pytest.approx(1, abs=0.05 if p < 0.5 else 0.4)
