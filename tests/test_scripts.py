"""The shell scripts, on nano runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data.demo import render
from tests.conftest import ROOT
from tests.trainers.nano import STYLES, nano_document, write_annotations

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "scripts" / script), *arguments]
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_strict_and_say_what_they_do(script: Path):
    lines = script.read_text().splitlines()
    assert len(lines) < 60
    assert "set -euo pipefail" in lines
    for flag in ("--help", "-h"):
        done = run(script.name, flag)
        assert done.returncode == 0
        assert f"scripts/{script.name}" in done.stdout
    if shutil.which("shellcheck"):
        checked = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of step 1 for a second's training, in the folder `step1` beside it."""
    folder = tmp_path_factory.mktemp("scripts")
    render(folder, images=28, seed=7)
    write_annotations(folder, "train", 24)
    val = write_annotations(folder, "val", 2)
    (folder / "styles.txt").write_text("\n".join(STYLES) + "\n")
    document = nano_document(folder, folder / "step1")
    document["data"] |= {"val": str(val)}
    document["train"] |= {"max_steps": 2, "batch_size": 4}
    document["eval"] |= {"meteor": False, "spice": False}
    document["scst"] = {"num_candidates": 2, "max_len_b": 4}
    path = folder / "conf.json"
    path.write_text(json.dumps(document))
    return path


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def step1(conf: Path) -> dict[str, Any]:
    """The scores of step 1, trained by two processes: `0,2` names two devices, and without GPUs they use the CPU."""
    return last_line(run("train_step1_standalone.sh", "0,2", "--", "--conf", str(conf)))


def test_step_1_trains_evaluates_and_keeps_its_output(conf: Path, step1: dict[str, Any]):
    folder = conf.parent / "step1"
    assert json.loads((folder / "metrics.json").read_text()) == step1
    assert json.loads((conf.parent / "results.jsonl").read_text().splitlines()[0]) == step1
    assert "step 2" in (folder / "train.log").read_text()
    assert "CIDEr" in (folder / "eval.log").read_text()
    state = folder / "checkpoints" / "last" / "training_state.pt"
    assert len(torch.load(state, weights_only=True)["rng"]) == 2


def test_a_finished_run_is_evaluated_again_and_not_trained_again(conf: Path, step1: dict[str, Any]):
    checkpoint = (conf.parent / "step1" / "checkpoints" / "last").resolve()
    written = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert last_line(run("train_step1_standalone.sh", "0,2", "--conf", str(conf)))["CIDEr"] == step1["CIDEr"]
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == written


def test_eval_takes_options_and_writes_scores(conf: Path, step1: dict[str, Any]):
    scores = last_line(run("eval.sh", "cpu", "--conf", str(conf), "--control", "blank-image"))
    assert scores["control"] == "blank-image"


def test_step_2_alone_goes_on_from_the_best_run_of_step_1(conf: Path, step1: dict[str, Any]):
    """Of the others one is of step 2, one has lost its checkpoint; no recipe goes on from the best, so its own does."""
    for name, objective, cider in (("a", "cross-entropy", 99), ("b", "scst", 100)):
        (conf.parent / name).mkdir()
        (conf.parent / name / "conf.json").write_text(json.dumps({"train": {"objective": objective}}))
        (conf.parent / name / "metrics.json").write_text(json.dumps({"CIDEr": cider}))
    done = run("train_step2_standalone.sh", "cpu", "--set", "train.batch_size=2", WORK_DIR=str(conf.parent))
    scores = last_line(done)
    best, folder = conf.parent / "step1", conf.parent / "step1_scst"
    assert f"step 2 from {best} by {folder}/step2.json" in done.stderr
    assert scores["checkpoint"].startswith(str(folder))
    assert json.loads((conf.parent / "results.jsonl").read_text().splitlines()[-1]) == scores
    config = json.loads((folder / "conf.json").read_text())
    assert config["model"]["checkpoint"] == f"{best}/checkpoints/best"
    assert (config["train"]["objective"], config["train"]["lr"], config["train"]["batch_size"]) == ("scst", 1e-4, 2)


def test_step_2_with_a_configuration_looks_for_nothing(conf: Path, tmp_path: Path):
    done = run("train_step2_standalone.sh", "cpu", "--conf", str(conf), "--set", "data.train=missing.json")
    assert done.returncode == 2
    assert "missing.json" in done.stderr
    assert done.stdout == ""


def test_step_2_without_a_run_of_step_1_says_so(tmp_path: Path):
    done = run("train_step2_standalone.sh", "0,2,3", WORK_DIR=str(tmp_path))
    assert done.returncode == 2
    assert f"no evaluated run of step 1 under {tmp_path}" in done.stderr


@pytest.mark.parametrize("gpus", ["0;1", "gpu", "0,", "all"])
def test_devices_are_a_list_or_cpu(gpus: str):
    done = run("train_step1_standalone.sh", gpus)
    assert done.returncode == 2
    assert "GPUS is a list such as 0,2,3, or cpu" in done.stderr
