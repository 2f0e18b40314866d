"""Every sweep that is shipped can be read, and every trial of CATT's is a configuration."""

import json
from pathlib import Path

import pytest

from config import load_config
from sweeps.search import read_sweep, trials
from tests.conftest import ROOT

FILES = sorted((ROOT / "conf" / "sweeps").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_sweep_is_read_and_says_its_command(path: Path) -> None:
    assert trials(read_sweep(path))
    assert "Command: " in json.loads(path.read_text())["_about"]


@pytest.mark.parametrize("name", ["catt", "catt_dictionaries"])
def test_every_trial_of_catt_is_a_configuration(name: str) -> None:
    for trial in trials(read_sweep(ROOT / "conf" / "sweeps" / f"{name}.json")):
        load_config(ROOT / "conf" / "demo_catt.json", sets=[f"{key}={value}" for key, value in trial.settings.items()])
