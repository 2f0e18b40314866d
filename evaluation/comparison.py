"""Evaluated runs side by side, one or several seeds each: scores with intervals, and whether the difference is real."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import read_list, read_object
from data.run_folder import RunFolder
from evaluation.bootstrap import Contributions, Difference
from evaluation.seeds import compare_groups, statement
from evaluation.signatures import differing

LOGGER = logging.getLogger("stylecap")


def read_contributions(run: str | Path) -> Contributions:
    """What the captions of an evaluated run contribute. ValueError where it has not been evaluated."""
    files = RunFolder(run)
    if not files.predictions.exists():
        raise ValueError(f"{files.path} has no {files.predictions.name}: evaluate this run first")
    try:
        return Contributions.of(read_list(files.predictions), read_object(files.metrics))
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        raise ValueError(f"{files.predictions}: {error}") from error


@dataclass(frozen=True)
class Comparison:
    """metric -> both scores and their difference with intervals, and the runs on either side, by name."""

    differences: Mapping[str, Difference]
    first: Sequence[str]
    second: Sequence[str]


def compare_runs(runs: Sequence[str], against: Sequence[str] | None, replicates: int) -> Comparison:
    """Two runs, second minus first; or, with `against`, the mean of `runs` minus that of `against`.

    ValueError for another number of runs than two without `against`, and for a run that stands on both sides or twice.
    """
    if against is None and len(runs) != 2:
        raise ValueError(f"compare takes two runs, not {len(runs)}: name those of the other side after --against")
    first, second = (against, runs) if against is not None else (runs[:1], runs[1:])
    for side, others in ((first, second), (second, first)):
        again = [run for run in side if against is not None and (list(side).count(run) > 1 or run in others)]
        if again:
            raise ValueError(f"{again[0]} is named twice: a run counts once, on one side")
    scored = [read_object(RunFolder(run).metrics) for run in [*first, *second] if RunFolder(run).metrics.exists()]
    for name, different in differing(scored).items():
        LOGGER.warning("%s was made in different ways and is not to be compared: %s", name, " and ".join(different))
    former, latter = ([read_contributions(run) for run in side] for side in (first, second))
    return Comparison(compare_groups(former, latter, replicates), first, second)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """For a machine: metric -> numbers."""
    return {
        name: {
            "first": one.first,
            "first_interval": list(one.first_interval),
            "second": one.second,
            "second_interval": list(one.second_interval),
            "difference": one.difference,
            "interval": list(one.interval),
        }
        for name, one in comparison.differences.items()
    }


def to_text(comparison: Comparison) -> str:
    """For people: scores x 100, a line a metric, `*` where the interval of the difference leaves 0 out."""
    lines = [("", _title(comparison.first), _title(comparison.second), "difference", "")]
    for name, one in comparison.differences.items():
        lines.append(
            (
                name,
                _with_interval(one.first, one.first_interval),
                _with_interval(one.second, one.second_interval),
                _with_interval(one.difference, one.interval, sign="+"),
                "*" if one.is_real else "",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, statement(len(comparison.first), len(comparison.second))])


def _title(runs: Sequence[str]) -> str:
    return runs[0] if len(runs) == 1 else f"mean of {len(runs)} runs ({runs[0]}, ...)"


def _with_interval(value: float, ends: tuple[float, float], sign: str = "") -> str:
    low, high = (f"{100 * end:{sign}.1f}" for end in ends)
    return f"{100 * value:{sign}.1f} [{low}, {high}]"
