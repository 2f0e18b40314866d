"""The shell scripts, on nano runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.metrics.nano_run import nano_run

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="needs the program jq")


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


def write_conf(path: Path, config: Any, **sections: dict[str, Any]) -> Path:
    document = config.to_dict()
    for name, section in sections.items():
        document[name] = document[name] | section if isinstance(section, dict) else section
    path.write_text(json.dumps(document))
    return path


@needs_jq
def test_step_2_trains_evaluates_and_appends_its_scores(tmp_path: Path):
    config = nano_run(tmp_path)
    conf = write_conf(
        tmp_path / "scst.json",
        config,
        work_dir=str(tmp_path / "scst"),  # type: ignore[arg-type]
        model={"checkpoint": str(tmp_path / "run" / "checkpoints" / "best"), "preset": None, "vocabulary": None},
        train={"objective": "scst", "batch_size": 2, "max_epochs": 1},
        scst={"max_len_b": 4, "num_candidates": 2},
        data={"patch_image_size": 48, "max_image_size": 48},
    )
    done = run("train_step2_standalone.sh", "cpu", "--conf", str(conf), WORK_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["n_captions"] == 6
    assert json.loads((tmp_path / "results.jsonl").read_text()) == scores


@needs_jq
def test_step_2_without_a_run_of_step_1_says_so(tmp_path: Path):
    done = run("train_step2_standalone.sh", "0,2,3", WORK_DIR=str(tmp_path))
    assert done.returncode == 2
    assert f"no evaluated run of step 1 under {tmp_path}" in done.stderr


@needs_jq
def test_step_2_takes_the_best_run_of_step_1(tmp_path: Path):
    for name, objective, cider in (("a", "cross-entropy", 0.9), ("b", "cross-entropy", 0.95), ("c", "scst", 2.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "conf.json").write_text(json.dumps({"train": {"objective": objective}}))
        (folder / "metrics.json").write_text(json.dumps({"CIDEr": cider}))
    done = run("train_step2_standalone.sh", "cpu", WORK_DIR=str(tmp_path))
    assert done.returncode == 2
    assert f"no recipe in conf/ has model.checkpoint {tmp_path}/b/checkpoints/best" in done.stderr


@needs_jq
def test_a_failing_training_fails_the_script(tmp_path: Path):
    conf = write_conf(tmp_path / "conf.json", nano_run(tmp_path, checkpoint=False), data={"train": "missing.json"})
    done = run("train_step2_standalone.sh", "cpu", "--conf", str(conf), WORK_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "missing.json" in done.stderr
    assert done.stdout == ""
