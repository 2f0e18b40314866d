"""BertAdam: an update by hand, its own count for each parameter, resuming."""

import copy

import pytest
import torch

from trainers import bertadam
from trainers.bertadam import BertAdam
from trainers.schedules import make_schedule


def test_one_update_by_hand() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    weight.grad = torch.tensor([0.5, 0.0])
    BertAdam([weight], 0.1, weight_decay=0.01).step()
    # m = 0.05, sqrt(v) = 0.5 * sqrt(0.001); no bias correction; decay on every weight
    moved = 0.05 / (0.5 * 0.001**0.5 + 1e-6) + 0.01 * 2
    torch.testing.assert_close(weight.detach(), torch.tensor([2 - 0.1 * moved, -1 + 0.1 * 0.01]))


def test_each_parameter_warms_up_from_its_own_first_gradient() -> None:
    early, late, idle = (torch.ones(1, requires_grad=True) for _ in range(3))
    optimizer = BertAdam([early, late, idle], 1.0, schedule=make_schedule("warmup_linear", warmup=0.5), total_steps=4)
    rates = []
    for step in range(3):
        rates.append(optimizer.next_rates())
        early.grad = torch.ones(1)
        late.grad = torch.ones(1) if step == 2 else None
        optimizer.step()
    assert rates == [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]]
    assert optimizer.next_rates() == [0.5, 0.5, 0]
    assert idle.item() == 1


def test_large_weights_are_updated_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.randn(7, 5, requires_grad=True)
    pieces = copy.deepcopy(whole)
    strided = copy.deepcopy(whole).detach().t().contiguous().t().requires_grad_()
    gradient = torch.randn(7, 5)
    for weight, size in ((whole, 1000), (pieces, 4), (strided, 4)):
        monkeypatch.setattr(bertadam, "_CPU_PIECE", size)
        optimizer = BertAdam([weight], 0.1)
        for _ in range(3):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(whole, pieces)
    torch.testing.assert_close(whole, strided)


def test_a_resumed_optimizer_goes_on_as_if_uninterrupted() -> None:
    def updates(weight: torch.Tensor, optimizer: BertAdam, count: int) -> None:
        for _ in range(count):
            weight.grad = weight.detach() ** 2
            optimizer.step()

    def made(weight: torch.Tensor) -> BertAdam:
        return BertAdam([weight], 0.1, schedule=make_schedule("warmup_cosine", warmup=0.2), total_steps=10)

    whole = torch.ones(3, requires_grad=True)
    updates(whole, made(whole), 6)
    half = torch.ones(3, requires_grad=True)
    first = made(half)
    updates(half, first, 3)
    second = made(half)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    updates(half, second, 3)
    assert torch.equal(whole, half)


def test_settings_that_cannot_be() -> None:
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="must not be negative"):
        BertAdam([weight], -1.0)
    with pytest.raises(ValueError, match="needs total_steps"):
        BertAdam([weight], 1.0, schedule=make_schedule("constant"))
