"""Numbers that are not finite: nothing is learnt from them, nothing is saved, and the run says where they came from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.toy import Squares, ToyItems, outcome, toy
from trainers.objective import Objective, ObjectiveOutput
from trainers.observer import Observer

NAN = torch.tensor([float("nan"), 0.0, 0.0])


class Spoilt(Squares):
    """A loss that is not finite at some updates, though every input is."""

    def __init__(self, at: set[int], value: float) -> None:
        self.at = at
        self.value = value

    def __call__(self, model: nn.Module, batch: dict, step: int) -> ObjectiveOutput:
        output = super().__call__(model, batch, step)
        if step in self.at:
            loss = output.loss_sum * self.value
            return ObjectiveOutput(loss, {"loss": (loss.detach(), 1.0)})
        return output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_update_without_finite_numbers_is_skipped(tmp_path: Path, caplog: Any, value: float) -> None:
    loop = toy(tmp_path, objective=Spoilt({1, 2}, value), log_every=1)
    weights: list[torch.Tensor] = []
    loop.observers.append(Recorder(weights))
    assert loop.run()["step"] == 6
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert caplog.text.count("the update is skipped: ['item ") == 2
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "history.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if "skipped" in line] == [2, 3]


def saved(folder: Path) -> dict[str, Any]:
    """All that is saved but the log, which tells of what was skipped."""
    return {name: value for name, value in outcome(folder).items() if name != "history"}


class Recorder(Observer):
    """The weights after each update."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        self.weights = weights

    def update_ended(self, loop: Any, logs: dict[str, float]) -> None:
        self.weights.append(loop.model.weight.detach().clone())


def test_too_many_in_a_row_stop_the_run_with_the_ids_and_touch_nothing(tmp_path: Path) -> None:
    toy(tmp_path, max_steps=2).run()
    before = saved(tmp_path)
    items = ToyItems()
    items.values = [NAN] * len(items.values)
    with pytest.raises(ValueError, match="4 updates in a row without finite numbers, the last on item nan"):
        toy(tmp_path, items=items, max_epochs=9).run(resume=True)
    assert saved(tmp_path) == before


def test_statistics_of_a_skipped_update_are_put_back(tmp_path: Path) -> None:
    items = ToyItems()
    items.values[0] = NAN
    loop = toy(tmp_path, items=items)
    norm: Any = nn.BatchNorm1d(3)
    loop.model.add_module("norm", norm)
    original = Squares.__call__

    class Normed(Squares):
        def __call__(self, model: Any, batch: dict, step: int) -> ObjectiveOutput:
            return original(self, model, {"x": model.norm(batch["x"])}, step)

    loop.inner.objective = Normed()
    loop.run()
    assert bool(torch.isfinite(norm.running_mean).all())
    assert float(norm.running_mean.abs().sum()) > 0


def test_a_model_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    toy(tmp_path, max_steps=2).run()
    before = saved(tmp_path)

    class Poison(Squares):
        def count(self, batch: dict, step: int) -> int:
            with torch.no_grad():
                bias.fill_(float("inf"))
            return super().count(batch, step)

    loop = toy(tmp_path, objective=Poison(), max_skipped_updates=10)
    bias: Any = loop.model.bias
    with pytest.raises(ValueError, match=r"step \d: bias and 0 more are not finite: the model is not saved"):
        loop.run(resume=True)
    assert saved(tmp_path) == before


def test_a_score_that_is_not_finite_is_no_best(tmp_path: Path) -> None:
    scores = iter([float("nan"), 0.5, float("nan")])
    result = toy(tmp_path, scores=lambda: {"score": next(scores)}).run()
    assert result["score"] == 0.5
    assert os.readlink(tmp_path / "checkpoints" / "best") == "step-000004"


def test_objectives_name_nothing_by_default() -> None:
    assert Objective().names({}) == ()
