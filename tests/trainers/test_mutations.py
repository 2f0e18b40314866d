"""Faults that no loss curve shows: each test fails when the line that it is about is gone."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from data.run_folder import RunFolder
from data.samples import Row, Split
from metrics.style_classifier import fingerprint
from rewards import kept_classifier
from tests.trainers.toy import Squares, ToyItems, collate, toy
from trainers.distributed import World
from trainers.objective import TrainingModule
from trainers.optimizer import adamw
from trainers.update import Updater

# --- judge and reward are taught by different images -----------------------------------------------------------------


def styled(images: int = 40) -> Split:
    rows = [Row(f"{i}.png", str(i), style, f"{style} words {i}") for i in range(images) for style in ("Sweet", "Sour")]
    return Split("train", ["Sweet", "Sour"], rows)


def test_the_evaluator_and_the_reward_learn_from_two_halves(tmp_path: Path):
    split, run = styled(), RunFolder(tmp_path)
    reward, judge = kept_classifier.reward_classifier(run, split), kept_classifier.style_evaluator(run, split)
    assert judge is not None
    halves = [
        [one for one in split if hashlib.sha256(one.image_id.encode()).digest()[0] % 2 == half] for half in (0, 1)
    ]
    assert min(map(len, halves)) > 10
    taught = [fingerprint([one.caption for one in half], [one.style for one in half]) for half in halves]
    assert [reward.fingerprint, judge.fingerprint] == taught
    assert {one.image_id for one in halves[0]}.isdisjoint(one.image_id for one in halves[1])
    assert reward.features != judge.features


# --- what decays -----------------------------------------------------------------------------------------------------


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.linear = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.convolution = nn.Conv2d(3, 2, 1)
        self.factors = nn.Parameter(torch.ones(2))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_matrices_decay_and_biases_norms_and_factors_do_not():
    model = Parts()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = adamw(model, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # so that decay is all that happens
    optimizer.step()
    for name, value in model.named_parameters():
        decays = name in ("table.weight", "linear.weight", "convolution.weight")
        expected = before[name] * (1 - 0.1 * 0.5) if decays else before[name]
        torch.testing.assert_close(value.detach(), expected, msg=name)


# --- gradients that were scaled up -----------------------------------------------------------------------------------


def update(scale: float | None, clip_norm: float) -> tuple[dict[str, float], torch.Tensor]:
    torch.manual_seed(1)
    model, objective = nn.Linear(3, 2), Squares()
    inner = TrainingModule(model, objective)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    updater = Updater(inner, inner, optimizer, World(), clip_norm=clip_norm, dtype="float32")
    if scale is not None:
        updater.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    torch.manual_seed(2)
    items = ToyItems()
    result = updater([dict(collate([items[0], items[1]]))], 0, 0.01, False)
    return result.logs, model.weight.detach().clone()


@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
def test_a_scale_of_the_loss_changes_neither_norm_nor_update(clip_norm: float):
    logs, weights = update(None, clip_norm)
    scaled_logs, scaled = update(1024.0, clip_norm)
    assert logs["grad_norm"] > 0.05  # so that clipping does something
    assert scaled_logs["grad_norm"] == pytest.approx(logs["grad_norm"], rel=1e-6)
    torch.testing.assert_close(scaled, weights)


# --- buffers of all ranks --------------------------------------------------------------------------------------------


def test_every_buffer_is_the_main_processes(monkeypatch: pytest.MonkeyPatch):
    sent: list[tuple[torch.Tensor, int]] = []
    monkeypatch.setattr(distributed, "broadcast", lambda tensor, src: sent.append((tensor, src)))
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(2, 2), nn.BatchNorm1d(3))
    World(rank=1, size=2).share_buffers(model)
    buffers = list(model.buffers())
    assert len(buffers) == 6
    assert [tensor is buffer for (tensor, _), buffer in zip(sent, buffers, strict=True)] == [True] * 6
    assert {src for _, src in sent} == {0}
    World().share_buffers(model)
    assert len(sent) == 6


def test_buffers_are_shared_before_the_model_is_scored_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []

    def noted(name: str, call: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            events.append(name)
            return call(*args, **kwargs)

        return run

    monkeypatch.setattr(World, "share_buffers", noted("shared", World.share_buffers))
    loop = toy(tmp_path, scores=noted("scored", lambda: {"score": 1.0}), max_steps=4)
    monkeypatch.setattr(loop.checkpoints, "save", noted("saved", loop.checkpoints.save))
    loop.run()
    assert events == ["shared", "scored", "saved"] * 2


# --- what is logged of a window --------------------------------------------------------------------------------------


def test_a_window_logs_means_and_the_rate_of_its_last_update(tmp_path: Path):
    toy(tmp_path / "one", log_every=1).run()
    toy(tmp_path / "three", log_every=3).run()

    def read(name: str) -> list[dict[str, Any]]:
        import json

        lines = (tmp_path / name / "history.jsonl").read_text().splitlines()
        return [entry for line in lines if "loss" in (entry := json.loads(line))]

    each, windows = read("one"), read("three")
    assert [entry["step"] for entry in windows] == [3, 6]
    for entry, start in zip(windows, (0, 3), strict=True):
        part = each[start : start + 3]
        assert entry["lr"] == part[-1]["lr"]
        for name in ("loss", "grad_norm"):
            assert entry[name] == pytest.approx(sum(one[name] for one in part) / 3, rel=1e-4)
