"""TRAR's learning rate and temperature; the published values are in tests/parity."""

from typing import Any

import pytest
import torch
from torch import nn

from trainers.trar_schedule import adam, learning_rate, temperature, updates_of


def rates(warmup: int, epochs: int = 8, samples: int = 40, batch: int = 4) -> list[float]:
    """At the end of each epoch of ten updates; base rate 1, halved in the last two epochs."""
    settings: dict[str, Any] = {
        "lr": 1.0,
        "samples": samples,
        "batch_size": batch,
        "decay_epochs": (6, 7),
        "decay": 0.5,
    }
    an_epoch = updates_of(1, samples, batch)
    return [
        learning_rate(an_epoch * (epoch + 1), epoch=epoch, warmup_epochs=warmup, **settings) for epoch in range(epochs)
    ]


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (0, [1, 1, 1, 1, 1, 1, 0.5, 0.25]),
        (1, [1 / 2, 1, 1, 1, 1, 1, 0.5, 0.25]),
        (3, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 0.5, 0.25]),
        (5, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 0.5, 0.25]),
    ],
)
def test_the_warm_up_rises_in_even_stairs_of_an_epoch(warmup: int, expected: list[float]) -> None:
    assert rates(warmup) == pytest.approx(expected)


def test_a_stair_ends_with_a_broken_number_of_updates() -> None:
    """22 samples in batches of 4 are 5.5 updates an epoch: two stairs are 11 updates, though two epochs make 10."""
    settings: dict[str, Any] = {"lr": 4.0, "samples": 22, "batch_size": 4, "epoch": 2}
    assert [learning_rate(step, **settings) for step in (5, 6, 11, 12, 16, 17)] == [1, 2, 2, 3, 3, 4]
    assert updates_of(2, 22, 4) == 10


def test_temperatures_by_hand() -> None:
    slow = [temperature(epoch, policy="slow", epochs=5, tau_max=9.0, tau_min=1.0) for epoch in range(5)]
    assert slow == pytest.approx([9, 7, 5, 3, 1])
    fast = [temperature(epoch, policy="fast", epochs=6, warmup_epochs=2, tau_max=9.0) for epoch in range(6)]
    assert fast == pytest.approx([9, 5, 1, 0.75, 0.5, 0.25])
    tune = [temperature(epoch, policy="finetune", epochs=4, warmup_epochs=1, tau_min=0.2) for epoch in range(4)]
    assert tune == pytest.approx([3, 0.2, 0.2, 0.2])
    assert temperature(0, policy="slow", epochs=1) == 10.0  # where the public code divides by zero


def test_what_no_schedule_has() -> None:
    with pytest.raises(ValueError, match="'warm' is unknown; choose one of slow, fast, finetune"):
        temperature(0, policy="warm", epochs=3)
    with pytest.raises(ValueError, match="epochs count from 0 to 2"):
        temperature(3, policy="slow", epochs=3)


def test_adam_takes_what_is_trained() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = adam(model, lr=0.5)
    [group] = optimizer.param_groups
    assert (len(group["params"]), group["betas"], group["eps"], group["weight_decay"]) == (2, (0.9, 0.98), 1e-9, 0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
