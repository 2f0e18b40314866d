"""A sweep on a Ray cluster of this machine alone, two trials at a time."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sweeps.on_ray import _at_full_budget, _history, _outcome, run_on_ray
from sweeps.search import Budget, Sweep, Trial
from tests.conftest import ROOT
from tests.offline import Watch
from tests.sweeps.test_runner import BASE, conf  # noqa: F401  a fixture

METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: make install EXTRAS=ray")


def test_trials_run_to_the_last_level():
    trial = Trial.of({"train.lr": 0.1})
    sweep = Sweep("s", {}, search="halving", trials=3, budget=Budget((10, 30)))
    assert _at_full_budget(sweep, trial).settings == {"train.lr": 0.1, "train.max_steps": 30}
    assert _at_full_budget(Sweep("s", {}), trial) == trial


def test_a_trial_that_was_stopped_is_no_failure(tmp_path: Path):
    trial = Trial.of({"seed": 1})
    assert _outcome(tmp_path, trial) is None
    for code, failed in ((130, False), (-15, False), (1, True)):
        (tmp_path / "failure.json").write_text(json.dumps({"command": "train", "exit_code": code, "last_lines": []}))
        assert (_outcome(tmp_path, trial) is not None) == failed
    (tmp_path / "metrics.json").write_text('{"CIDEr": 1}')
    found = _outcome(tmp_path, trial)
    assert found is not None
    assert found.metrics == {"CIDEr": 1}


def test_a_history_that_is_being_written(tmp_path: Path):
    assert _history(tmp_path) == []
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert _history(tmp_path) == [{"step": 1}, {"step": 2}]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_the_remedy_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match=r"pip install 'ray\[tune\]'"):
        run_on_ray(Sweep("s", {"seed": [1]}), BASE, runs=tmp_path, address="local", environment={})


@needs_ray
def test_two_workers_run_a_sweep_and_asha_gives_up_what_falls_behind(conf: Path, network_watch: Watch):  # noqa: F811
    sweep = conf.parent / "asha.json"
    document = {
        "parameters": {"train.lr": [1e-6, 1e-2]},
        "search": "halving",
        "trials": 8,
        "seed": 4,
        "budget": {"levels": [2, 6]},
    }
    sweep.write_text(json.dumps(document))
    command = [sys.executable, str(ROOT / "finetune.py"), "sweep", "--sweep", str(sweep), "--conf", str(conf)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    done = subprocess.run(
        [*command, "--ray", "local"], cwd=conf.parent, env=environment, capture_output=True, text=True, timeout=400
    )
    # A cluster of Ray's asks its machine, and no other, which cloud it is in; no setting keeps it from that.
    network_watch.asked[:] = [url for url in network_watch.asked if urlsplit(url).hostname not in METADATA_HOSTS]
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["trials"] == 2  # equal draws are one
    assert summary["done"] + summary["stopped"] == 2
    assert summary["failed"] == 0
    folder = conf.parent / "work_dir" / "sweeps" / "asha"
    assert (Path(summary["best"]["checkpoint"]) / "model.safetensors").exists()
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 1 + summary["done"]
