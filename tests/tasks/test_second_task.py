"""A second task runs under every command, and nothing but its file and its registration knows of it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import config as configuration
import finetune
from sweeps.runner import run_sweep
from sweeps.search import read_sweep
from tasks import TASKS
from tests.tasks.shapes import ShapesConfig


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    tables: list[dict[str, Any]] = [configuration.CONFIGS, configuration.KEYS, configuration.FLAGS, TASKS]
    before = [set(table) for table in tables]
    configuration.register(ShapesConfig)
    TASKS["shapes"] = "tests.tasks.shapes:TASK"
    yield
    for table, former in zip(tables, before, strict=True):
        for key in set(table) - former:
            del table[key]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    file = tmp_path / "shapes.json"
    train = {"lr": 0.01, "batch_size": 12, "max_epochs": 30, "dtype": "float32", "tensorboard": False, "log_every": 4}
    file.write_text(json.dumps({"task": "shapes", "work_dir": str(tmp_path / "run"), "train": train}))
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_train_resume_eval_controls_and_report(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "--conf", conf, "--set", "train.max_steps=30", "train")
    run(capsys, "--conf", conf, "train", "--resume")
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history if "loss" in row] == [*range(4, 29, 4), 30, *range(32, 301, 4)]
    scores = json.loads(run(capsys, "--conf", conf, "eval"))
    assert scores["accuracy"] > 0.9
    assert scores["intervals"]["accuracy"][0] <= scores["accuracy"] <= scores["intervals"]["accuracy"][1]
    majority = json.loads(run(capsys, "--conf", conf, "eval", "--control", "majority"))
    blank = json.loads(run(capsys, "--conf", conf, "eval", "--control", "blank-image"))
    assert majority["accuracy"] == blank["accuracy"] == pytest.approx(1 / 3)
    page = Path(run(capsys, "report", tmp_path / "run").strip()).read_text()
    for text in ("accuracy", "majority", "blank-image", "circle", "Validation: accuracy"):
        assert text in page
    assert "CIDEr</th>" not in page
    [result] = [json.loads(line) for line in run(capsys, "results", tmp_path).splitlines()]
    assert result["conf"]["task"] == "shapes"


def test_its_settings_are_its_own(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = {row["key"] for row in json.loads(run(capsys, "conf", "--schema", "--task", "shapes", "--json"))}
    assert {"hidden", "data.images", "train.lr"} <= schema
    assert not {"scst.rewards", "style.prompt", "train.label_smoothing"} & schema
    assert finetune.main(["--conf", str(conf), "--set", "scst.workers=3", "conf"]) == 2
    assert 'unknown key "scst"' in capsys.readouterr().err


def test_a_sweep_over_it(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its trials run here and not in processes of their own, which would not know the task."""

    def here(command: list[str], log: Path, environment: Mapping[str, str], lock: int) -> int:
        return finetune.main(command[2:])

    file = tmp_path / "sweep.json"
    file.write_text(json.dumps({"name": "s", "parameters": {"hidden": [1, 16]}, "metric": "accuracy"}))
    base = configuration.load_config(conf)
    done = run_sweep(read_sweep(str(file)), base, ["cpu"], runs=tmp_path, environment={}, run=here)
    assert (done["done"], done["failed"]) == (2, 0)
    assert done["best"]["settings"] == {"hidden": 16}
