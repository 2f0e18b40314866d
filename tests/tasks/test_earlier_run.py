"""A run that an earlier version of the program made is resumed, evaluated and exported by this one.

`tests/fixtures/earlier_run.tar.xz`: version 4b91999's run of a nano model on the rendered set, interrupted after 3 of 6
updates, and what its uninterrupted twin logged.
"""

import json
import tarfile
from pathlib import Path

import pytest

from config import load_config
from serving.sharing import export_run
from tasks.evaluating import run_evaluation
from tasks.training import run_training
from tests.conftest import ROOT

PACKED = ROOT / "tests" / "fixtures" / "earlier_run.tar.xz"


def test_an_earlier_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKED.stat().st_size < 200_000
    run = tmp_path / "stopped"
    with tarfile.open(PACKED) as packed:
        packed.extractall(run, filter="data")
    expected = json.loads((run / "expected.json").read_text())
    monkeypatch.chdir(tmp_path)  # its paths are relative
    config = load_config("stopped/conf.json")
    assert run_training(config, resume=True)["step"] == 6
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(expected["losses"], abs=1e-4)
    assert [line["val/CIDEr"] for line in lines if "val/CIDEr" in line] == expected["val"]
    assert run_evaluation(config)["CIDEr"] == expected["CIDEr"]
    exported = {path.name for path in export_run("stopped", "exported").iterdir()}
    assert {"model.safetensors", "style_map.json", "README.md", "checksums.json"} <= exported


def test_every_recipe_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """The configuration that a run kept then is the configuration that it has now, but for keys that came since."""
    with tarfile.open(PACKED) as packed:
        packed.extract("conf.json", tmp_path, filter="data")
    former = json.loads((tmp_path / "conf.json").read_text())
    now = load_config(tmp_path / "conf.json").to_dict()
    for section, settings in former.items():
        known = {key: now[section][key] for key in settings} if isinstance(settings, dict) else now[section]
        assert settings == known
