"""Sweep files and the trials they amount to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from config import KEYS, load_config, parse_config
from sweeps.search import Budget, Trial, read_sweep, survivors, trials, with_budget
from tests.conftest import ROOT


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_grid_is_every_combination(tmp_path: Path):
    document = {"parameters": {"train.lr": [1e-4, 1e-3], "seed": [1, 2, 3]}, "metric": "style.accuracy"}
    sweep = read_sweep(write(tmp_path / "lr.json", document))
    assert (sweep.name, sweep.search, sweep.metric, sweep.keep) == ("lr", "grid", "style.accuracy", 1)
    found = [trial.settings for trial in trials(sweep)]
    assert found == [{"train.lr": lr, "seed": seed} for lr in (1e-4, 1e-3) for seed in (1, 2, 3)]


def test_a_trial_s_name_is_decided_by_its_settings_alone(tmp_path: Path):
    wider = read_sweep(write(tmp_path / "a.json", {"parameters": {"train.lr": [1e-4, 1e-3], "seed": [1, 2]}}))
    one = read_sweep(write(tmp_path / "b.json", {"parameters": {"train.lr": [1e-3], "seed": [2]}}))
    assert trials(one)[0].name in [trial.name for trial in trials(wider)]
    assert Trial.of({"a": 1, "b": 2}).name.split("-")[-1] == Trial.of({"b": 2, "a": 1}).name.split("-")[-1]
    assert Trial.of({"style.prompt": " what/../{} is?" * 9}).name.count("/") == 0
    assert Trial.of({"a": 1}).name != Trial.of({"a": "1"}).name


def test_random_search_draws_within_its_limits_and_again_the_same(tmp_path: Path):
    parameters = {
        "train.lr": {"low": 1e-5, "high": 1e-2, "log": True},
        "train.dropout": {"low": 0.0, "high": 0.5},
        "train.batch_size": {"low": 4, "high": 8},
        "seed": [7],
    }
    document = {"parameters": parameters, "search": "random", "trials": 200, "seed": 3}
    sweep = read_sweep(write(tmp_path / "r.json", document))
    found = [trial.settings for trial in trials(sweep)]
    assert found == [trial.settings for trial in trials(sweep)]
    assert len(found) == 200
    assert all(1e-5 <= one["train.lr"] <= 1e-2 and 0 <= one["train.dropout"] <= 0.5 for one in found)
    assert {one["train.batch_size"] for one in found} == {4, 5, 6, 7, 8}
    below = sum(one["train.lr"] < 10**-3.5 for one in found)
    assert 70 < below < 130  # half of the draws on a logarithmic scale
    for one in found[:5]:
        for key, value in one.items():
            KEYS[key].check(value, key)


def test_a_csv_has_a_row_for_each_run(tmp_path: Path):
    sweep = read_sweep(write(tmp_path / "runs.csv", "train.lr,train.schedule\n1e-4,cosine\n0.001,linear\n"))
    assert [trial.settings for trial in trials(sweep)] == [
        {"train.lr": 1e-4, "train.schedule": "cosine"},
        {"train.lr": 0.001, "train.schedule": "linear"},
    ]


def test_equal_settings_are_one_trial(tmp_path: Path):
    assert len(trials(read_sweep(write(tmp_path / "a.json", {"parameters": {"seed": [1, 2, 1]}})))) == 2


def test_halving_costs_the_same_at_each_level(tmp_path: Path):
    document = {
        "parameters": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": "halving",
        "trials": 9,
        "budget": {"levels": [100, 300, 900]},
    }
    sweep = read_sweep(write(tmp_path / "h.json", document))
    assert sweep.budget == Budget((100, 300, 900), "train.max_steps")
    assert [survivors(9, 0, sweep.budget.levels), survivors(3, 1, sweep.budget.levels)] == [3, 1]
    assert survivors(2, 0, (100, 1000)) == 1
    trial = with_budget(trials(sweep)[0], sweep.budget.key, 300)
    assert trial.settings["train.max_steps"] == 300
    assert trial.name.endswith("@300")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "parameters is missing"),
        ({"parameters": {}}, "parameters is missing"),
        ({"parameters": {"train.lrr": [1]}}, "train.lrr is no setting; did you mean train.lr?"),
        ({"parameters": {"work_dir": ["a"]}}, "work_dir cannot vary"),
        ({"parameters": {"seed": 1}}, "parameters.seed = 1 must be a list of values"),
        ({"parameters": {"seed": []}}, "must be a list of values"),
        ({"parameters": {"train.lr": {"low": 1, "high": 2}}}, "must be a list of values"),
        ({"parameters": {"train.lr": {"low": 2, "high": 1}}, "search": "random", "trials": 1}, "low below high"),
        (
            {"parameters": {"train.lr": {"low": 0, "high": 1, "log": True}}, "search": "random", "trials": 1},
            "above 0 on a logarithmic scale",
        ),
        ({"parameters": {"seed": [1]}, "search": "random"}, "needs trials"),
        ({"parameters": {"seed": [1]}, "search": "grit"}, "must be one of grid, random, halving"),
        ({"parameters": {"seed": [1]}, "goal": "up"}, "must be one of max, min"),
        ({"parameters": {"seed": [1]}, "metrik": "CIDEr"}, "unknown key metrik; did you mean metric?"),
        ({"parameters": {"seed": [1]}, "keep": 0}, "keep = 0"),
        ({"parameters": {"seed": [1]}, "keep": True}, "keep = true must be int"),
        ({"parameters": {"seed": [1]}, "name": "../up"}, "names a folder"),
        ({"parameters": {"seed": [1]}, "search": "halving", "trials": 2}, "need each other"),
        ({"parameters": {"seed": [1]}, "budget": {"levels": [1, 2]}}, "need each other"),
        (
            {"parameters": {"seed": [1]}, "search": "halving", "trials": 2, "budget": {"levels": [2, 1]}},
            "rising whole numbers",
        ),
        ([], "no JSON object"),
        ("{", "not JSON"),
    ],
)
def test_what_a_file_must_not_hold(document: Any, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"s.json.*{message}".replace("?", r"\?").replace("..", ".*")):
        read_sweep(write(tmp_path / "s.json", document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed\n", "a line for each run"),
        ("seed,train.lr\n1\n", "line 2 has 1 values for 2 keys"),
        ("sead\n1\n", "seed"),
    ],
)
def test_what_a_csv_must_not_hold(text: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        read_sweep(write(tmp_path / "s.csv", text))


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "sweeps").glob("*")), ids=lambda path: path.name)
def test_the_sweeps_that_come_along_fit_their_base(path: Path):
    told = re.search(r"--conf (\S+)", path.read_text(encoding="utf-8"))  # the command in its `_about`
    base = load_config(ROOT / (told[1] if told else "train_conf.json")).to_dict()
    found = trials(read_sweep(path))
    assert len(found) >= 2
    for trial in found:
        parse_config(base, sets=[f"{key}={json.dumps(value)}" for key, value in trial.settings.items()])


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ({"search": "random", "trials": 2 * 10**9, "parameters": {"seed": [1, 2]}}, "2,000,000,000"),
        ({"search": "random", "trials": 10**30, "parameters": {"seed": {"low": 1, "high": 9}}}, "1,000,000,000"),
        ({"parameters": {"seed": list(range(1000)), "train.lr": [1e-4] * 1000}}, "1,000,000"),
        (
            {"search": "halving", "trials": 10001, "parameters": {"seed": [1]}, "budget": {"levels": [1, 2]}},
            "10,001",
        ),
    ],
)
def test_more_trials_than_anybody_trains(document: Any, number: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"s.json: it amounts to {number}.* trials, and a sweep has 10,000 at most"):
        read_sweep(write(tmp_path / "s.json", document))


def test_more_rows_than_anybody_trains(tmp_path: Path):
    rows = "".join(f"{number}\n" for number in range(10_001))
    with pytest.raises(ValueError, match="10,001 trials"):
        trials(read_sweep(write(tmp_path / "s.csv", f"seed\n{rows}")))


@pytest.mark.parametrize(
    "choice",
    [
        *({"low": "a", "high": "b"}, {"low": True, "high": 2}, {"low": 0, "high": 1e301}, {"low": None, "high": 1}),
        *({"low": [1], "high": [2]}, {"low": 1, "high": 2, "log": "yes"}, {"low": 2, "high": 2}, 3, "x", []),
    ],
)
def test_ranges_that_are_none(choice: Any, tmp_path: Path):
    document = {"search": "random", "trials": 2, "parameters": {"train.lr": choice}}
    with pytest.raises(ValueError, match=r"parameters.train.lr = .* must be a list of values, or"):
        read_sweep(write(tmp_path / "s.json", document))


@pytest.mark.parametrize("name", ["..", ".", "...", "x" * 300])
def test_names_that_are_no_folder_of_their_own(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="names a folder"):
        read_sweep(write(tmp_path / "s.json", {"name": name, "parameters": {"seed": [1]}}))
