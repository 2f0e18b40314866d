"""Trackers of experiments, which stand-ins play: what they are told, and what happens when one fails."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from data.run_folder import RunFolder
from tests.trainers.nano import nano_config
from trainers.history import History, read_history
from trainers.trackers import open_trackers, without_secrets

SETTINGS = {"train": {"lr": 0.1}, "model": {"config": {"api_key": "hunter2"}}}


class StandIn:
    """Plays all four modules; `told` is what they were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.broken = False
        for name in ("wandb", "swanlab", "trackio", "mlflow"):
            module: Any = ModuleType(name)
            module.init = self._init(name)
            module.log = lambda values, step, name=name: self._hear(name, step, values)
            module.finish = lambda name=name: self.told.append((name, "end"))
            module.set_experiment = lambda project: self.told.append(("mlflow", "experiment", project))
            module.start_run = self._init("mlflow")
            module.log_params = lambda values: self.told.append(("mlflow", "params", values))
            module.log_metrics = module.log
            module.end_run = module.finish
            monkeypatch.setitem(sys.modules, name, module)

    def _init(self, name: str) -> Any:
        def init(**settings: Any) -> Any:
            self.told.append((name, "begin", settings))
            number = settings.get("id") or settings.get("run_id") or f"{name}-1"
            return SimpleNamespace(
                id=number,
                url=f"https://{name}.invalid/{number}",
                info=SimpleNamespace(run_id=number),
                log=lambda values, step: self._hear(name, step, values),
                finish=lambda: self.told.append((name, "end")),
            )

        return init

    def _hear(self, name: str, step: int, values: dict[str, float]) -> None:
        if self.broken:
            raise ConnectionError("no server")
        self.told.append((name, step, values))

    def of(self, name: str) -> list[Any]:
        return [told[1:] for told in self.told if told[0] == name]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(monkeypatch)


def begin(folder: Path, *names: str, resumed: bool = False) -> History:
    run = RunFolder(folder)
    history = History(run.history)
    history.trackers += open_trackers(names, project="p", folder=run, settings=SETTINGS, resumed=resumed)
    return history


@pytest.mark.parametrize("name", ["wandb", "swanlab", "trackio", "mlflow"])
def test_a_tracker_is_told_what_the_history_says(stand_in: StandIn, tmp_path: Path, name: str) -> None:
    history = begin(tmp_path, name)
    history.log(1, 0, {"loss": 2.0, "lr": 0.5})
    history.log(2, 0, {"loss": math.nan, "CIDEr": 0.25})
    history.close()
    history.close()
    told = stand_in.of(name)
    assert [one for one in told if isinstance(one[0], int)] == [(1, {"loss": 2.0, "lr": 0.5}), (2, {"CIDEr": 0.25})]
    assert told.count(("end",)) == 1
    assert "hunter2" not in repr(stand_in.told)
    assert "0.1" in repr(stand_in.told)
    links = json.loads((tmp_path / "trackers.json").read_text())
    assert list(links) == [name]
    assert {entry["step"]: entry.get("loss") for entry in read_history(tmp_path / "history.jsonl")} == {1: 2.0, 2: None}


def test_a_resumed_run_continues_where_a_tracker_has_it(stand_in: StandIn, tmp_path: Path) -> None:
    begin(tmp_path, "wandb", "mlflow").close()
    assert "id" not in stand_in.of("wandb")[0][1]
    stand_in.told.clear()
    begin(tmp_path, "wandb", "mlflow", resumed=True).close()
    assert stand_in.of("wandb")[0][1]["id"] == "wandb-1"
    assert stand_in.of("wandb")[0][1]["resume"] == "allow"
    assert ("begin", {"run_id": "mlflow-1"}) in stand_in.of("mlflow")
    assert not any(told[0] == "params" for told in stand_in.of("mlflow"))


def test_one_that_fails_is_told_nothing_more_and_others_are(
    stand_in: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = begin(tmp_path, "wandb")
    stand_in.broken = True
    history.log(1, 0, {"loss": 2.0})
    stand_in.broken = False
    history.log(2, 0, {"loss": 1.0})
    history.close()
    assert [record.message for record in caplog.records] == [
        "wandb failed (ConnectionError: no server): it is told nothing more; history.jsonl has everything"
    ]
    assert len(stand_in.of("wandb")) == 1
    assert len(read_history(tmp_path / "history.jsonl")) == 2


def test_what_is_not_installed_or_cannot_begin_is_said_at_once(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "swanlab", None)
    with pytest.raises(ValueError, match="names swanlab, which is not installed.*pip install swanlab"):
        begin(tmp_path, "swanlab")
    monkeypatch.setattr(sys.modules["trackio"], "init", lambda **_: 1 / 0)
    with pytest.raises(ValueError, match=r"trackio cannot begin a run \(division by zero\)"):
        begin(tmp_path, "wandb", "trackio")
    assert ("wandb", "end") in stand_in.told
    assert not (tmp_path / "trackers.json").exists()


def test_names_of_secrets_hide_values_at_any_depth() -> None:
    assert without_secrets({"a": {"Token": "x", "tokenizer": "ptb"}, "password": 1}) == {
        "a": {"Token": "(not shown)", "tokenizer": "ptb"},
        "password": "(not shown)",
    }


def test_a_run_reports_what_its_configuration_names(stand_in: StandIn, demo: Any, tmp_path: Path) -> None:
    from tasks.training import run_training

    overrides = ("train.max_steps=2", "train.log_every=1", 'train.report_to=["trackio"]', "train.project=mine")
    config = nano_config(demo, tmp_path, *overrides)
    assert config.train.report_to == ("trackio",)
    run_training(config, resume=False)
    told = stand_in.of("trackio")
    assert told[0][1]["project"] == "mine"
    assert told[0][1]["config"]["train"]["max_steps"] == 2
    steps = [entry["step"] for entry in read_history(tmp_path / "history.jsonl")]
    assert sorted({one[0] for one in told if isinstance(one[0], int)}) == sorted(set(steps))
    assert told[-1] == ("end",)


def test_unknown_trackers_are_refused_by_the_configuration(demo: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.report_to = .* must be list of .*wandb"):
        nano_config(demo, tmp_path, 'train.report_to=["wand"]')
