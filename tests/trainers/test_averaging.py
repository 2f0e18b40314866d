"""The moving average of the weights: by hand, in a run, and across an interruption."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.nano import UPDATES, assert_equal, history, nano_config, saved_weights, train
from trainers.averaging import WeightAverage
from trainers.checkpointing import load_state


class Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))
        self.frozen = nn.Parameter(torch.tensor([7.0]), requires_grad=False)


def set_to(model: Scalar, value: float) -> None:
    with torch.no_grad():
        model.w.fill_(value)


def test_the_average_by_hand() -> None:
    model = Scalar()
    average = WeightAverage(model, decay=0.2)
    for weight in (3.0, 5.0):
        set_to(model, weight)
        average.update()
    # d = min(0.2, 2/11) = 2/11, then min(0.2, 3/12) = 0.2
    first = 2 / 11 * 1 + 9 / 11 * 3
    with average.in_place():
        assert model.w.item() == pytest.approx(0.2 * first + 0.8 * 5)
        assert model.frozen.item() == 7
    assert model.w.item() == 5


def test_the_weights_come_back_after_an_error() -> None:
    model = Scalar()
    average = WeightAverage(model, decay=0.5)
    set_to(model, 3.0)
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert model.w.item() == 3


def test_its_state_goes_on_as_if_nothing_had_happened() -> None:
    model = Scalar()
    average = WeightAverage(model, decay=0.9)
    set_to(model, 3.0)
    average.update()
    state = average.state()
    with average.in_place():
        saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = Scalar()
    other.load_state_dict(saved)
    resumed = WeightAverage(other, decay=0.9)
    resumed.resume(state)
    assert other.w.item() == 3
    for each, its in ((model, average), (other, resumed)):
        set_to(each, 4.0)
        its.update()
    with average.in_place(), resumed.in_place():
        assert model.w.item() == other.w.item()


SETS = ("train.dropout=0.3", "train.ema=0.9")


def test_the_average_is_what_a_run_saves(demo: Path, tmp_path: Path) -> None:
    plain = nano_config(demo, tmp_path / "plain", "train.dropout=0.3")
    config = nano_config(demo, tmp_path / "average", *SETS)
    train(plain)
    trainer = train(config)
    assert history(config) == history(plain)  # what is trained is not changed
    own = load_state(tmp_path / "average" / "checkpoints" / "last")["average"]["weights"]
    saved = saved_weights(config)
    name = "encoder.layer_norm.weight"
    assert torch.equal(own[name], saved_weights(plain)[name])
    assert torch.equal(trainer.model.state_dict()[name], own[name])
    assert not torch.equal(saved[name], own[name])
    assert "average" not in load_state(tmp_path / "plain" / "checkpoints" / "last")


@pytest.mark.parametrize("update", [3, UPDATES])
def test_an_interrupted_run_has_the_same_average(demo: Path, tmp_path: Path, update: int) -> None:
    whole = nano_config(demo, tmp_path / "whole", *SETS)
    train(whole)
    config = nano_config(demo, tmp_path / "parts", *SETS)
    train(config, interrupt=update)
    torch.manual_seed(99)
    train(config, resume=True)
    assert history(config) == history(whole)
    assert_equal(saved_weights(config), saved_weights(whole))


def test_the_average_is_validated(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.captioning import task

    seen: list[torch.Tensor] = []
    trainers: list[Any] = []

    def score(*_: Any, **__: Any) -> dict[str, float]:
        seen.append(trainers[0].model.encoder.layer_norm.weight.detach().clone())
        return {"CIDEr": 1.0}

    monkeypatch.setattr(task, "evaluate_captions", score)
    config = nano_config(demo, tmp_path, *SETS, "train.max_epochs=1", f"data.val={demo}/nano_val.json")
    from tasks.training import prepare
    from trainers.distributed import World

    trainers.append(prepare(config, World(), False))
    trainers[0].train()
    assert torch.equal(seen[-1], saved_weights(config)["encoder.layer_norm.weight"])
