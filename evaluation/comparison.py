"""Two evaluated runs side by side: their scores with intervals, and whether the difference is real."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import read_list, read_object
from data.run_folder import RunFolder
from evaluation.bootstrap import Contributions, Difference, compare


def read_contributions(run: str | Path) -> Contributions:
    """What the captions of an evaluated run contribute. ValueError where it has not been evaluated."""
    files = RunFolder(run)
    if not files.predictions.exists():
        raise ValueError(f"{files.path} has no {files.predictions.name}: evaluate this run first")
    try:
        return Contributions.of(read_list(files.predictions), read_object(files.metrics))
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        raise ValueError(f"{files.predictions}: {error}") from error


def compare_runs(first: str, second: str, replicates: int) -> dict[str, Difference]:
    """metric -> both scores and their difference with intervals, from the same draws of images."""
    return compare(read_contributions(first), read_contributions(second), replicates)


def to_json(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """For a machine."""
    return {
        name: {
            "first": one.first,
            "first_interval": list(one.first_interval),
            "second": one.second,
            "second_interval": list(one.second_interval),
            "difference": one.difference,
            "interval": list(one.interval),
        }
        for name, one in differences.items()
    }


def to_text(differences: Mapping[str, Difference], first: str, second: str) -> str:
    """For people: scores x 100, a line a metric, `*` where the interval of the difference leaves 0 out."""
    lines = [("", first, second, "difference", "")]
    for name, one in differences.items():
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
    return "\n".join(
        [
            *text,
            "95% intervals, paired over images; * the difference is beyond image sampling: other images would show it, "
            "another seed may not",
        ]
    )


def _with_interval(value: float, ends: tuple[float, float], sign: str = "") -> str:
    low, high = (f"{100 * end:{sign}.1f}" for end in ends)
    return f"{100 * value:{sign}.1f} [{low}, {high}]"
