"""Parameters that are divided over ranks: whole only where and when they are used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data.run_folder import RunFolder
from tests.trainers.toy import SETTINGS, Squares, ToyItems, collate, toy
from trainers import loop as loops
from trainers import update as updates
from trainers.distributed import World


class Asking(Squares):
    asks_model = True


@pytest.mark.parametrize(("objective", "times"), [(Squares(), 0), (Asking(), 3)])
def test_whole_parameters_are_gathered_only_for_an_objective_that_asks_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: Squares, times: int
) -> None:
    """Not for every micro-batch of one whose `prepare` does not look at it."""
    loop = toy(tmp_path, objective=objective)
    calls: list[Any] = []

    def counted(module: Any, task: Any) -> Any:
        calls.append(module)
        return task()

    monkeypatch.setattr(updates, "gathered", counted)
    loop.updater([dict(collate([torch.randn(3)])) for _ in range(3)], 0, 0.1, False)
    assert len(calls) == times


def test_a_model_is_divided_over_ranks_before_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved whole to each device first, it would have to fit on one."""
    model = nn.Linear(3, 2)
    events: list[str] = []
    monkeypatch.setattr(loops, "shard", lambda *_: events.append("shard"))
    monkeypatch.setattr(model, "to", lambda *_: events.append("move"))
    loops.Loop(
        model,
        ToyItems(),
        Squares(),
        collate=collate,
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
        rate=lambda step, total: 0.1,
        write_model=lambda folder, weights: None,
        validate=None,
        folder=RunFolder(tmp_path),
        world=World(0, 2),
        **SETTINGS | {"sharding": "fsdp"},
    )
    assert events == ["shard"]
