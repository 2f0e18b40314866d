"""What a sweep tries: a file of parameters over a base configuration, and the trials that it amounts to.

A JSON file holds

    {"search": "random", "trials": 8,
     "parameters": {"train.lr": [1e-4, 3e-4], "train.dropout": {"low": 0, "high": 0.3}}}

`search` is "grid" (every combination of lists), "random" (`trials` draws, by `seed`), or "halving": successive halving
(Jamieson and Talwalkar, arXiv:1502.07943), where trials run with the first level of `budget`, {"key", "levels"}, and
only the best go on to the next, so many that each level costs about the same. A CSV file has a row for each trial.
"""

import csv
import difflib
import hashlib
import io
import itertools
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from conf.typed import json_or_text
from config import KEYS
from data.files import read_object
from data.reading import read_text

#: Trials of a sweep, at most: each is a training run.
MOST_TRIALS = 10_000
SEARCHES = ("grid", "random", "halving")
BUDGET_KEY = "train.max_steps"
_RANGE = {"low", "high", "log"}
_LARGEST = 1e300  # of what is drawn: the width of a range must be a number, too


@dataclass(frozen=True)
class Budget:
    """What trials are given more of, and how much at each level."""

    levels: tuple[int, ...]
    key: str = BUDGET_KEY


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        name: of the sweep and its folder; the file's name where it says none.
        parameters: key -> list of values, or {"low", "high", "log"?} for random and halving search.
        rows: settings of each trial, of a CSV file; then nothing else is searched.
        metric: of metrics.json, by its path, such as `CIDEr` or `style.accuracy`; `goal`: "max" or "min".
        keep: how many models are kept, the best ones.
    """

    name: str
    parameters: dict[str, Any]
    rows: tuple[dict[str, Any], ...] = ()
    search: str = "grid"
    trials: int = 0
    seed: int = 1
    metric: str = "CIDEr"
    goal: str = "max"
    keep: int = 1
    budget: Budget | None = None


@dataclass(frozen=True)
class Trial:
    """Settings (key -> value) over the base configuration, under a name that they alone decide."""

    name: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Trial":
        text = json.dumps(dict(sorted(settings.items())))
        short = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
        short = re.sub(r"[^\w.,=+-]+", "_", short)[:60].strip("_")
        return cls(f"{short}-{hashlib.sha256(text.encode()).hexdigest()[:6]}", dict(settings))


def read_sweep(path: str | Path) -> Sweep:
    """A sweep file. ValueError, naming file and key, for what it must not hold."""
    file = Path(path)
    try:
        if file.suffix == ".csv":
            return Sweep(file.stem, {}, rows=_read_rows(file))
        return _sweep_of(read_object(file), file.stem)
    except ValueError as error:
        raise ValueError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error


def trials(sweep: Sweep) -> list[Trial]:
    """The trials of a sweep, all different; of halving, those of the first level without their budget.

    Raises:
        ValueError: there are more than `MOST_TRIALS`.
    """
    check_number(sweep)
    if sweep.rows:
        settings: Sequence[dict[str, Any]] = sweep.rows
    elif sweep.search == "grid":
        names = list(sweep.parameters)
        settings = [dict(zip(names, values, strict=True)) for values in itertools.product(*sweep.parameters.values())]
    else:
        rng = random.Random(sweep.seed)
        settings = [{key: _draw(choice, rng) for key, choice in sweep.parameters.items()} for _ in range(sweep.trials)]
    return list({trial.name: trial for trial in map(Trial.of, settings)}.values())


def check_number(sweep: Sweep) -> None:
    """ValueError for more trials than a sweep may have, before any of them is made."""
    number = sweep.trials if sweep.search != "grid" else math.prod(map(len, sweep.parameters.values()))
    number = len(sweep.rows) or number
    if number > MOST_TRIALS:
        raise ValueError(f"it amounts to {number:,} trials, and a sweep has {MOST_TRIALS:,} at most: ask for fewer")


def survivors(number: int, level: int, levels: Sequence[int]) -> int:
    """How many of `number` trials of a level go on to the next: as many as make it cost the same, one at least."""
    return max(1, math.floor(number * levels[level] / levels[level + 1]))


def with_budget(trial: Trial, key: str, amount: int) -> Trial:
    """The same trial at a level."""
    return Trial(f"{trial.name}@{amount}", trial.settings | {key: amount})


def _read_rows(file: Path) -> tuple[dict[str, Any], ...]:
    try:
        table = list(csv.reader(io.StringIO(read_text(file), newline="")))
    except OSError as error:
        raise ValueError(f"cannot read it: {error.strerror}") from error
    except csv.Error as error:
        raise ValueError(f"it is no table: {error}") from error
    if len(table) < 2:
        raise ValueError("it needs a line of keys and a line for each run")
    keys, *rows = table
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice} stands twice in the first line: keep one")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(keys):
            raise ValueError(f"line {number} has {len(row)} values for {len(keys)} keys")
    _check_keys(keys)
    return tuple(dict(zip(keys, map(json_or_text, row), strict=True)) for row in rows)


def _sweep_of(document: Mapping[str, Any], name: str) -> Sweep:
    known = [field.name for field in fields(Sweep) if field.name != "rows"]
    for key in document:
        if key not in (*known, "_about"):
            near = difflib.get_close_matches(key, known, n=1)
            raise ValueError(f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else ""))
    given = {key: value for key, value in document.items() if key != "_about"}
    kinds = {"trials": int, "seed": int, "keep": int, "name": str, "metric": str, "parameters": dict, "budget": dict}
    for key, kind in kinds.items():
        if key in given and (not isinstance(given[key], kind) or isinstance(given[key], bool)):
            raise ValueError(f"{key} = {json.dumps(given[key])} must be {kind.__name__}")
    for key, choices in (("search", SEARCHES), ("goal", ("max", "min"))):
        if given.get(key, choices[0]) not in choices:
            raise ValueError(f"{key} = {json.dumps(given[key])} must be one of {', '.join(choices)}")
    if "budget" in given:
        given["budget"] = _budget_of(given["budget"])
    sweep = Sweep(**{"name": name, "parameters": {}} | given)
    _check(sweep)
    return sweep


def _check(sweep: Sweep) -> None:
    if not re.fullmatch(r"[\w.+-]{1,100}", sweep.name) or not sweep.name.strip("."):
        raise ValueError(f'name = "{sweep.name[:100]}" names a folder: use letters, digits, ".", "-" and "_"')
    if not sweep.parameters:
        raise ValueError("parameters is missing: say what varies, key -> list of values")
    _check_keys(sweep.parameters)
    for key, choice in sweep.parameters.items():
        _check_choice(key, choice, lists_only=sweep.search == "grid")
    if sweep.search != "grid" and sweep.trials < 1:
        raise ValueError(f'search = "{sweep.search}" needs trials, the number of settings to draw')
    if sweep.keep < 1:
        raise ValueError(f"keep = {sweep.keep} must be 1 or more: the best model is kept")
    if (sweep.search == "halving") != (sweep.budget is not None):
        raise ValueError('search = "halving" and budget = {"key", "levels"} need each other')
    check_number(sweep)


def _check_keys(keys: Sequence[str] | Mapping[str, Any]) -> None:
    for key in keys:
        if key not in KEYS and not any(KEYS[name].is_object and key.startswith(f"{name}.") for name in KEYS):
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise ValueError(f"{key} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
        if key == "work_dir":
            raise ValueError("work_dir cannot vary: each run has a folder of its own in the sweep's")


def _check_choice(key: str, choice: Any, *, lists_only: bool) -> None:
    if isinstance(choice, list) and choice:
        return
    ends = isinstance(choice, dict) and {"low", "high"} <= choice.keys() <= _RANGE
    ends = ends and _is_number(choice["low"]) and _is_number(choice["high"])
    ends = ends and isinstance(choice.get("log", False), bool)
    if lists_only or not ends or not choice["low"] < choice["high"]:
        form = "a list of values" if lists_only else 'a list of values, or {"low", "high", "log"?} with low below high'
        raise ValueError(f"parameters.{key} = {json.dumps(choice)} must be {form}")
    if choice.get("log") and choice["low"] <= 0:
        raise ValueError(f"parameters.{key}: low = {choice['low']} must be above 0 on a logarithmic scale")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _budget_of(given: Mapping[str, Any]) -> Budget:
    levels = given.get("levels")
    right = isinstance(levels, list) and len(levels) > 1 and all(type(level) is int and level > 0 for level in levels)
    if not right or sorted(set(levels or [])) != levels or not given.keys() <= {"key", "levels"}:
        raise ValueError('budget must be {"key", "levels"} with two or more rising whole numbers')
    _check_keys([given.get("key", BUDGET_KEY)])
    return Budget(tuple(levels), given.get("key", BUDGET_KEY))


def _draw(choice: Any, rng: random.Random) -> Any:
    if isinstance(choice, list):
        return rng.choice(choice)
    low, high = choice["low"], choice["high"]
    if isinstance(low, int) and isinstance(high, int) and not choice.get("log"):
        return rng.randint(low, high)
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if choice.get("log") else rng.uniform(low, high)
    return float(f"{value:.4g}")
