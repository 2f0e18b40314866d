"""Running a sweep: with stand-ins for training, and once for real, killed and started again."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from config import Config, parse_config
from data.demo import render
from sweeps.display import head, last_step, table
from sweeps.ledger import prune, ranked
from sweeps.runner import run_sweep
from sweeps.search import Budget, Sweep
from sweeps.trial import Outcome, run_trial
from tests.conftest import ROOT
from tests.trainers.nano import STYLES, nano_document, write_annotations

BASE = parse_config({"model": {"preset": "tiny", "vocabulary": "train"}, "data": {"image_dir": ".", "train": "t.json"}})


class Training:
    """Stands for `finetune.py`: "trains" a model whose CIDEr is its learning rate; notes what was asked."""

    def __init__(self, fails: float | None = None, pause: float = 0.0):
        self.fails, self.pause = fails, pause
        self.commands: list[list[str]] = []
        self.devices: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, command: list[str], log: Path, environment: Mapping[str, str], lock: int) -> int:
        device = environment["CUDA_VISIBLE_DEVICES"]
        with self.lock:
            self.commands.append(command)
            self.devices.append(device)
            self.at_once[device] += 1
            self.most[device] = max(self.most[device], self.at_once[device])
        time.sleep(self.pause)
        folder = Path(command[command.index("--work_dir") + 1])
        settings = json.loads((folder / "settings.json").read_text())
        with self.lock:
            self.at_once[device] -= 1
        if settings["train.lr"] == self.fails:
            log.write_text("loading\nValueError: out of memory\n")
            return 1
        if "train" in command:
            best = folder / "checkpoints" / "best"
            best.mkdir(parents=True)
            save_file({"weight": np.zeros(3)}, best / "model.safetensors")
        else:
            score = settings["train.lr"] * settings.get("train.max_steps", 1)
            (folder / "metrics.json").write_text(json.dumps({"CIDEr": score, "style": {"accuracy": 1 - score}}))
        return 0


def lr_sweep(*rates: float, **others: Any) -> Sweep:
    return Sweep("lr", {"train.lr": list(rates)}, **others)


def run(sweep: Sweep, tmp_path: Path, training: Training, devices: tuple[str, ...] = ("cpu",), base: Config = BASE):
    return run_sweep(sweep, base, devices, runs=tmp_path, environment={}, run=training)


def test_all_trials_are_run_ranked_and_written_down(tmp_path: Path):
    training = Training()
    summary = run(lr_sweep(0.1, 0.3, 0.2), tmp_path, training)
    folder = tmp_path / "sweeps" / "lr"
    assert (summary["trials"], summary["done"], summary["failed"]) == (3, 3, 0)
    assert summary["best"] == json.loads((folder / "best.json").read_text())
    assert summary["best"]["settings"] == {"train.lr": 0.3}
    assert (Path(summary["best"]["checkpoint"]) / "model.safetensors").exists()
    lines = (folder / "leaderboard.csv").read_text().splitlines()
    assert lines[0] == "rank,trial,CIDEr,CIDEr-D,BLEU-4,ROUGE-L,train.lr"
    assert [line.split(",")[0] + line.rsplit(",", 1)[1] for line in lines[1:]] == ["10.3", "20.2", "30.1"]
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"done"}
    assert len(training.commands) == 6
    assert set(training.devices) == {""}


def test_only_the_best_models_are_kept(tmp_path: Path):
    run(lr_sweep(0.3, 0.1, 0.4, 0.2, keep=2), tmp_path, Training())
    kept = {
        json.loads((path.parent / "settings.json").read_text())["train.lr"] for path in tmp_path.rglob("checkpoints")
    }
    assert kept == {0.3, 0.4}


def test_smaller_may_be_better_and_metrics_lie_deeper(tmp_path: Path):
    assert run(lr_sweep(0.1, 0.3, goal="min"), tmp_path, Training())["best"]["settings"] == {"train.lr": 0.1}
    deep = Sweep("deep", {"train.lr": [0.1, 0.3]}, metric="style.accuracy")
    assert run(deep, tmp_path, Training())["best"]["settings"] == {"train.lr": 0.1}


def test_what_is_done_is_not_done_again(tmp_path: Path):
    run(lr_sweep(0.1, 0.2), tmp_path, Training())
    again = Training()
    summary = run(lr_sweep(0.1, 0.2, 0.3), tmp_path, again)
    assert summary["trials"] == 3
    assert len(again.commands) == 2  # of the new one alone


def test_training_that_was_broken_off_goes_on(tmp_path: Path):
    run(lr_sweep(0.1), tmp_path, Training(fails=0.1))
    (folder,) = (path.parent for path in tmp_path.rglob("failure.json"))
    (folder / "checkpoints" / "last").mkdir(parents=True)
    training = Training()
    run(lr_sweep(0.1), tmp_path, training)
    assert "--resume" in training.commands[0]
    assert not (folder / "failure.json").exists()


def test_a_failure_is_recorded_and_stops_no_other(tmp_path: Path):
    summary = run(lr_sweep(0.1, 0.2, 0.3), tmp_path, Training(fails=0.2))
    assert (summary["done"], summary["failed"]) == (2, 1)
    rows = [json.loads(line) for line in (tmp_path / "sweeps" / "lr" / "results.jsonl").read_text().splitlines()]
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert failed["failure"] == {
        "command": "train",
        "exit_code": 1,
        "last_lines": ["loading", "ValueError: out of memory"],
    }
    assert run(lr_sweep(0.2), tmp_path / "other", Training(fails=0.2))["best"] is None


def test_runs_are_spread_over_devices_one_on_each(tmp_path: Path):
    training = Training(pause=0.05)
    run(lr_sweep(*(k / 100 for k in range(1, 9))), tmp_path, training, devices=("0", "3"))
    assert set(training.devices) == {"0", "3"}
    assert training.most == {"0": 1, "3": 1}


def test_halving_gives_the_best_more(tmp_path: Path):
    parameters = {"train.lr": {"low": 0.001, "high": 0.9}}
    sweep = Sweep("h", parameters, search="halving", trials=9, budget=Budget((10, 30, 90)))
    training = Training()
    summary = run(sweep, tmp_path, training)
    assert summary["trials"] == 9 + 3 + 1
    lines = (tmp_path / "sweeps" / "h" / "leaderboard.csv").read_text().splitlines()[1:]
    rates = [float(line.split(",")[-2]) for line in lines]
    assert summary["best"]["settings"] == {"train.lr": max(rates), "train.max_steps": 90}
    assert lines[0].endswith(",90")
    assert len(list(tmp_path.rglob("checkpoints"))) == 1


def test_a_sweep_belongs_to_its_base(tmp_path: Path):
    run(lr_sweep(0.1), tmp_path, Training())
    other = parse_config(BASE.to_dict(), sets=["seed=99"])
    with pytest.raises(ValueError, match="a sweep over another configuration"):
        run(lr_sweep(0.1), tmp_path, Training(), base=other)


def test_settings_are_checked_before_anything_runs(tmp_path: Path):
    training = Training()
    with pytest.raises(ValueError, match=r"trial lr_end=1.*lr_end = 1 is above train.lr"):
        run(Sweep("s", {"train.lr_end": [0.0, 1.0]}), tmp_path, training)
    assert training.commands == []


def test_a_run_that_is_still_going_on_is_waited_for(tmp_path: Path):
    """Its lock is held, as by a run whose sweep was killed; when it ends, its result is taken as it is."""
    folder = tmp_path / "trial"
    folder.mkdir()
    done: list[Outcome] = []
    with open(folder / ".running", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        training = Training()
        thread = threading.Thread(
            target=lambda: done.append(run_trial(folder, tmp_path / "b.json", {"train.lr": 1}, "cpu", {}, training))
        )
        thread.start()
        time.sleep(0.2)
        assert not done
        (folder / "metrics.json").write_text('{"CIDEr": 4}')
    thread.join(timeout=10)
    assert done[0].metrics == {"CIDEr": 4}
    assert training.commands == []


def test_nothing_is_removed_before_the_best_model_is_whole(tmp_path: Path):
    outcomes = [Outcome(name, tmp_path / name, {}, metrics={"CIDEr": k}) for k, name in enumerate("ab")]
    for one in outcomes:
        (one.folder / "checkpoints" / "best").mkdir(parents=True)
    weights = outcomes[1].folder / "checkpoints" / "best" / "model.safetensors"
    assert prune(outcomes, {"b"}) == []  # no weights at all
    save_file({"weight": np.zeros(300)}, weights)
    weights.write_bytes(weights.read_bytes()[:-50])
    assert prune(outcomes, {"b"}) == []  # cut short
    save_file({"weight": np.zeros(300)}, weights)
    assert prune(outcomes, {"b"}) == [outcomes[0].folder / "checkpoints"]


def test_scores_that_are_none_or_not_a_number_are_not_ranked(tmp_path: Path):
    values = {"a": 1.0, "b": float("nan"), "c": None, "d": True, "e": 2}
    outcomes = [Outcome(name, tmp_path, {}, metrics={"CIDEr": value}) for name, value in values.items()]
    assert [one.name for one in ranked(outcomes, "CIDEr", "max")] == ["e", "a"]


def test_the_table_says_what_runs(tmp_path: Path):
    (tmp_path / "history.jsonl").write_text('{"step": 20, "loss": 1.25, "lr": 1}\n{"step": 4')
    state = {
        "planned": 3,
        "done": 1,
        "failed": 0,
        "metric": "CIDEr",
        "best": ("a", 0.5),
        "running": {"b": ("cpu", tmp_path), "c": ("1", tmp_path / "none")},
    }
    assert head(state) == "1 of 3 runs done, 0 failed; best CIDEr 0.5: a"
    rows = table(state)
    assert rows[1].startswith("  GPU 1  c ")
    assert rows[1].endswith("starting")
    assert rows[2].endswith("step 20: loss 1.25")
    assert last_step(tmp_path) == "step 20: loss 1.25"


# --- for real --------------------------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    render(tmp_path, images=28, seed=7)
    write_annotations(tmp_path, "train", 24)
    val = write_annotations(tmp_path, "val", 2)
    (tmp_path / "styles.txt").write_text("\n".join(STYLES) + "\n")
    document = nano_document(tmp_path, tmp_path / "unused")
    document["data"] |= {"val": str(val)}
    document["train"] |= {"max_steps": 6, "checkpoint_every": 2, "batch_size": 4}
    document["eval"] |= {"meteor": False, "spice": False, "bootstrap": 0}
    path = tmp_path / "conf.json"
    path.write_text(json.dumps(document))
    return path


def start(conf: Path, name: str) -> subprocess.Popen[str]:
    sweep = conf.parent / f"{name}.json"
    sweep.write_text(json.dumps({"parameters": {"train.lr": [1e-3, 1e-2]}}))
    command = [sys.executable, str(ROOT / "finetune.py"), "sweep", "--sweep", str(sweep), "--conf", str(conf)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=conf.parent, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_a_sweep_that_is_killed_and_started_again_ends_the_same(conf: Path):
    runs = conf.parent / "work_dir" / "sweeps"
    whole, killed = start(conf, "whole"), start(conf, "killed")
    deadline = time.monotonic() + 120
    while len(list((runs / "killed").glob("*/metrics.json"))) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)  # the second run is under way
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = start(conf, "killed")
    for process in (whole, again):
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert json.loads(out)["done"] == 2
    boards = [(runs / name / "leaderboard.csv").read_text() for name in ("whole", "killed")]
    assert boards[0] == boards[1]
    assert len(boards[0].splitlines()) == 3
    assert len(list((runs / "killed").glob("*/checkpoints"))) == 1
