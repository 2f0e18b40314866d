"""TRAR's training against the public code: schedules, optimizer steps, whole runs with a stop in between, files."""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.trar import TrarModel
from models.trar.checkpoints import read_published, write_published
from tests.parity.conftest import Golden
from tests.parity.trar_nets import apart, golden_model, no_noise, tensors
from trainers.trar_losses import answer_loss
from trainers.trar_schedule import POLICIES, adam, learning_rate, temperature, updates_of

EXACT = 1e-12
#: What the public code sets where a case says nothing.
DEFAULTS: dict[str, Any] = {
    "LR_BASE": 1e-4,
    "LR_DECAY_LIST": [10, 12],
    "LR_DECAY_R": 0.2,
    "WARMUP_EPOCH": 3,
    "MAX_EPOCH": 13,
    "GRAD_ACCU_STEPS": 1,
    "GRAD_NORM_CLIP": -1,
}


@pytest.mark.goldens("schedules*", system="trar", when=lambda case: "lr" in case)
def test_learning_rates(golden: Golden) -> None:
    told = re.search(r"LR_BASE ([\d.e-]+), decay ([\d.]+) .*index ([\d, and]+)", golden.json["lr_runs"])
    assert told is not None
    lr, decay, starts = float(told[1]), float(told[2]), [int(number) for number in re.findall(r"\d+", told[3])]
    for name, case in golden.json["lr"].items():
        samples, batch, warmup = (int(number) for number in re.findall(r"\d+", name))
        rows: dict[str, Any] = {
            "lr": lr,
            "samples": samples,
            "batch_size": batch,
            "decay_epochs": starts,
            "decay": decay,
        }
        an_epoch = updates_of(1, samples, batch)
        epochs = len(case["lr_at_end_of_epoch"])
        assert an_epoch == case["steps_per_epoch"]
        assert updates_of(epochs, samples, batch) == case["total"]
        for rate, first, last in case["runs"]:
            middle = (first + last) // 2
            for step in {first, middle, last}:
                epoch = (step - 1) // an_epoch
                found = learning_rate(step, epoch=epoch, warmup_epochs=warmup, **rows)
                if warmup == 3 or step > samples / batch * (warmup + 1):  # elsewhere the original is wrong
                    assert found == pytest.approx(rate, rel=EXACT, abs=0), (name, step)
                else:
                    assert found <= lr * (1 + 1e-12)


@pytest.mark.goldens("schedules*", system="trar", when=lambda case: "resume" in case)
def test_updates_before_a_stop(golden: Golden) -> None:
    for name, case in golden.json["resume"].items():
        samples, batch, epochs = (int(number) for number in re.findall(r"\d+", name))
        assert updates_of(epochs, samples, batch) == case["steps really made"]


@pytest.mark.goldens("schedules*", system="trar", when=lambda case: "tau" in case)
def test_temperatures(golden: Golden) -> None:
    for name, case in golden.json["tau"].items():
        policy, epochs, warmup = (int(number) for number in re.findall(r"\d+", name))
        settings: dict[str, Any] = {"policy": POLICIES[policy], "epochs": epochs, "warmup_epochs": warmup}
        found = [temperature(epoch, **settings) for epoch in range(epochs)]
        assert found == pytest.approx(case["tau_per_epoch"], rel=EXACT, abs=0)


@pytest.mark.goldens("step_*", system="trar", when=lambda case: "accumulated_in_3" in case)
def test_three_updates(golden: Golden) -> None:
    case = golden.json
    kind = case["loss"].split(",")[0]
    features, questions, targets = _exact(*tensors(golden.arrays, "features", "questions", "targets"))
    model = golden_model(case["config"], case["keys"]).double().train()
    model.tau = case["tau"]
    noise = no_noise(model, len(features))

    parts = case["accumulated_in_3"]
    losses = []
    for rows in torch.arange(len(features)).chunk(len(parts["losses"])):
        part = model(features[rows], questions[rows], noise=noise[:, rows])
        losses.append(answer_loss(part.logits, targets[rows], kind))
        losses[-1].backward()
    assert [loss.item() for loss in losses] == pytest.approx(parts["losses"], rel=1e-5)
    assert torch.stack(losses).sum().item() == pytest.approx(parts["sum"], rel=1e-5)
    assert _norm(model) == pytest.approx(parts["grad_norm"], rel=1e-5)

    optimizer = adam(model, lr=case["steps"][0]["lr"])
    for number, step in enumerate(case["steps"]):
        optimizer.param_groups[0]["lr"] = step["lr"]
        optimizer.zero_grad()
        loss = answer_loss(model(features, questions, noise=noise).logits, targets, kind)
        loss.backward()
        assert loss.item() == pytest.approx(step["loss_before"], rel=1e-5)
        assert _norm(model) == pytest.approx(step["grad_norm"], rel=1e-5)
        if number == 0:
            _compare_norms(model, case)
        optimizer.step()
    with torch.no_grad():
        after = model(features, questions, noise=noise).logits
    assert float(answer_loss(after, targets, kind)) == pytest.approx(case["loss_after"], rel=1e-5)
    assert apart(after.float(), golden.arrays["logits_after"]) <= 1e-4


def _compare_norms(model: TrarModel, case: Mapping[str, Any]) -> None:
    """Of each gradient; below 1e-6 they are zero but for rounding."""
    for name, parameter in model.named_parameters():
        expected = case["grad_norm_of_each"].get(name)
        assert (parameter.grad is None) == (name in case["without_grad"])
        if expected is not None and parameter.grad is not None:
            found = float(parameter.grad.norm())
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def _exact(*parts: Tensor) -> list[Tensor]:
    """Numbers in float64: what is left of a difference is then the original's own rounding."""
    return [part.double() if part.is_floating_point() else part for part in parts]


def _norm(model: TrarModel) -> float:
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())


class Run:
    """A training as the public engine makes it, for one configuration of `train_runs`.

    It runs in float64. Some biases have a gradient of exactly zero; Adam turns their rounding noise in float32 into
    full steps, and once in a while such a step carries a hidden unit across its kink and the run away from any other.
    """

    def __init__(self, golden: Golden, settings: Mapping[str, Any]):
        self.settings = DEFAULTS | dict(settings)
        prefix = "clevr_" if settings["DATASET"] == "clevr" else ""
        names = (f"{prefix}features", f"{prefix}questions", f"{settings['DATASET']}_targets")
        self.features, self.questions, self.targets = _exact(*tensors(golden.arrays, *names))
        self.model = golden_model(settings, golden.json["keys_clevr" if prefix else "keys"]).double()
        self.optimizer = adam(self.model, lr=self.settings["LR_BASE"])
        self.done = 0
        self.rows: list[list[float]] = []
        self.rates: list[float] = []
        self.taus: list[float] = []
        self.first_losses: list[float] = []

    def train(self, until: int) -> None:
        for epoch in range(self.done, until):
            if self.model.config.routing == "hard":
                policy = POLICIES[self.settings["TAU_POLICY"]]
                self.model.tau = temperature(
                    epoch,
                    policy=policy,
                    epochs=self.settings["MAX_EPOCH"],
                    warmup_epochs=self.settings["WARMUP_EPOCH"],
                    tau_max=self.settings["TAU_MAX"],
                    tau_min=self.settings["TAU_MIN"],
                )
                self.taus.append(self.model.tau)
            self._epoch(epoch)
        self.done = until

    def _epoch(self, epoch: int) -> None:
        samples, batch = len(self.features), self.settings["BATCH_SIZE"]
        an_epoch = updates_of(1, samples, batch)
        logged = 0.0
        for number in range(an_epoch):
            rows = torch.arange(number * batch, (number + 1) * batch)
            rate = learning_rate(
                an_epoch * epoch + number + 1,
                epoch=epoch,
                lr=self.settings["LR_BASE"],
                samples=samples,
                batch_size=batch,
                warmup_epochs=self.settings["WARMUP_EPOCH"],
                decay_epochs=self.settings["LR_DECAY_LIST"],
                decay=self.settings["LR_DECAY_R"],
            )
            self.rates.append(rate)
            logged += self._update(rows, rate)
        self.rows.append([epoch + 1, logged / samples, self.rates[-1]])

    def _update(self, rows: Tensor, rate: float) -> float:
        parts = self.settings["GRAD_ACCU_STEPS"]
        self.optimizer.zero_grad()
        logged = []
        for part in rows.chunk(parts):
            noise = no_noise(self.model, len(part))
            out = self.model.train()(self.features[part], self.questions[part], noise=noise)
            loss = answer_loss(out.logits, self.targets[part], self.settings["LOSS_FUNC"])
            loss.backward()
            logged.append(loss.item() * parts)
        if not self.rows:
            self.first_losses.append(logged[-1] / (len(rows) // parts))
        if self.settings["GRAD_NORM_CLIP"] > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["GRAD_NORM_CLIP"])
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return sum(logged)

    def base_rate(self) -> float:
        """As decayed by the last epoch that was done."""
        decays = sum(self.done - 1 >= start for start in self.settings["LR_DECAY_LIST"])
        return self.settings["LR_BASE"] * self.settings["LR_DECAY_R"] ** decays

    def save(self, path: Path) -> None:
        state = self.optimizer.state_dict()
        write_published(path, self.model, optimizer=state, lr_base=self.base_rate(), epoch=self.done)

    def resume(self, path: Path) -> None:
        saved = read_published(path)
        assert saved.optimizer is not None
        assert saved.epoch is not None
        self.model.load_state_dict(saved.state)
        self.optimizer.load_state_dict(saved.optimizer)
        self.done = saved.epoch

    def final_logits(self, samples: int) -> Tensor:
        self.model.eval()
        self.model.tau = 0.1
        with torch.no_grad():
            noise = no_noise(self.model, samples)
            return self.model(self.features[:samples], self.questions[:samples], noise=noise).logits


@pytest.mark.goldens("train_runs*", system="trar", when=lambda case: "runs" in case)
def test_runs(golden: Golden, tmp_path: Path) -> None:
    """A run that begins later goes on from the file of one that was stopped there."""
    stops = {case["rows"][0][0] - 1 for case in golden.json["runs"].values()} - {0}
    for name, case in golden.json["runs"].items():
        run = Run(golden, case["config"])
        begin, end = case["rows"][0][0] - 1, case["rows"][-1][0]
        if begin:
            run.resume(_stopped(golden, case["config"], begin, tmp_path))
        for stop in sorted({stop for stop in stops if begin < stop < end}):
            run.train(until=stop)
            run.save(tmp_path / _file(case["config"], stop))
        run.train(until=end)
        _compare_run(run, case)
        logits = golden.arrays.get(f"final_logits_{name}")
        if logits is not None:
            found = run.final_logits(len(logits)).float()
            assert torch.allclose(found, torch.from_numpy(logits), rtol=1e-4, atol=1e-4), name


def _stopped(golden: Golden, settings: Mapping[str, Any], epochs: int, folder: Path) -> Path:
    """The file of a run with these settings after so many epochs: one that is there, or made now."""
    path = folder / _file(settings, epochs)
    if not path.exists():
        run = Run(golden, settings)
        run.train(until=epochs)
        run.save(path)
    return path


def _file(settings: Mapping[str, Any], epochs: int) -> str:
    same = json.dumps({name: value for name, value in settings.items() if name != "VERSION"}, sort_keys=True)
    return f"{zlib.crc32(same.encode())}-epoch{epochs}.pkl"


def _compare_run(run: Run, case: Mapping[str, Any]) -> None:
    for found, (epoch, loss, rate) in zip(run.rows, case["rows"], strict=True):
        assert found[0] == epoch
        assert found[1] == pytest.approx(loss, rel=1e-4, abs=1e-4)
        assert found[2] == pytest.approx(rate, rel=EXACT, abs=0)
    assert len(run.rates) == case["steps"]
    for rate, first, last in case["lr_runs"]:
        assert run.rates[first - 1 : last] == pytest.approx([rate] * (last - first + 1), rel=EXACT, abs=0)
    assert run.taus == pytest.approx(case["tau_per_epoch"], rel=EXACT, abs=0)
    printed = [float(row[3]) for row in case["printed_first_epoch"]]
    assert run.first_losses == pytest.approx(printed, rel=1e-4, abs=1e-4)


@pytest.mark.goldens("train_runs*", system="trar", when=lambda case: "checkpoint" in case)
def test_a_file_holds_what_the_public_code_expects(golden: Golden, tmp_path: Path) -> None:
    expected = golden.json["checkpoint"]
    case = next(iter(golden.json["runs"].values()))
    run = Run(golden, case["config"])
    run.train(until=1)
    run.done = expected["epoch"]
    run.optimizer.param_groups[0]["lr"] = expected["param_groups"][0]["lr"]
    run.save(tmp_path / "epoch.pkl")
    content = torch.load(tmp_path / "epoch.pkl", weights_only=True)
    assert {name: type(value).__name__ for name, value in content.items()} == expected["top"]
    assert content["epoch"] == expected["epoch"]
    assert content["lr_base"] == pytest.approx(expected["lr_base"], rel=EXACT, abs=0)
    assert {name: type(value).__name__ for name, value in content["optimizer"].items()} == expected["optimizer"]
    [group], [told] = content["optimizer"]["param_groups"], expected["param_groups"]
    assert f"{len(group['params'])} indices" == told["params"]
    fixed = {name: value for name, value in told.items() if name not in ("params", "betas")}
    assert {name: group[name] for name in fixed} == fixed
    assert list(group["betas"]) == told["betas"]
    first = content["optimizer"]["state"][0]
    assert {name: list(value.shape) for name, value in first.items()} == expected["state_of_first"]
