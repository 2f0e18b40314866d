"""Content, style and variety of captions: which runs no other one beats in all three.

One of the three is easily bought with another, so a gain in one is said of a run only together with the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import flatten, read_object
from data.run_folder import RunFolder
from report.runs import EvaluatedRun

CONTENT, STYLE, VARIETY = "CIDEr", "style.accuracy", "diversity.different"
_PEOPLE = "style.evaluator.accuracy"
_FEWEST = 2  # runs
#: What runs of one recipe differ in.
_OF_A_RUN = ("seed", "work_dir", "_about")
_STARTED_FROM = "model.checkpoint"
_MOST_STEPS = 5  # that a run is followed back: a folder may have been trained from itself


@dataclass(frozen=True)
class TradeOff:
    """A run's content (CIDEr), style (share of captions whose asked style the judge finds) and variety (share of
    different captions), times 100.

    Attributes:
        recipe: the name of the first run of its recipe.
        front: no other run is at least as good in all three and better in one.
    """

    run: str
    recipe: str
    content: float
    style: float
    variety: float
    front: bool


def trade_offs(runs: Sequence[EvaluatedRun]) -> list[TradeOff]:
    """Those of the runs that captioned what the first of them did; empty where there are fewer than two."""
    scored = [run for run in runs if None not in _values(run)]
    alike = [run for run in scored if set(run.contributions.keys) == set(scored[0].contributions.keys)]
    if len(alike) < _FEWEST:
        return []
    values = [[100 * value for value in _values(run)] for run in alike]
    recipes: dict[str, str] = {}
    return [
        TradeOff(run.name, recipes.setdefault(recipe_of(run), run.name), content, style, variety, best)
        for run, (content, style, variety), best in zip(alike, values, front(values), strict=True)
    ]


def people_in_style(runs: Sequence[EvaluatedRun]) -> float | None:
    """How often the judge finds the style of people's captions, times 100: the mean over runs; None if nobody knows."""
    known = [value for run in runs if (value := run.metric(_PEOPLE)) is not None]
    return 100 * sum(known) / len(known) if known else None


def front(values: Sequence[Sequence[float]]) -> list[bool]:
    """Of points in any number of dimensions, more being better: whether none is as good in all and better in one."""
    return [not any(_beats(other, one) for other in values) for one in values]


def _beats(first: Sequence[float], second: Sequence[float]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _values(run: EvaluatedRun) -> list[Any]:
    return [run.metric(path) for path in (CONTENT, STYLE, VARIETY)]


def recipe_of(run: EvaluatedRun) -> str:
    """What runs have in common that differ in their seed; captions without a configuration are a recipe of their own.

    A run that starts from another run's checkpoint starts from that run's recipe.
    """
    return _recipe(run.conf, 0) if run.conf else f"run {run.name}"


def _recipe(conf: Mapping[str, Any], steps: int) -> str:
    kept = {key: value for key, value in conf.items() if key not in _OF_A_RUN}
    former = Path(str(kept.get(_STARTED_FROM)))
    if len(former.parents) > 1 and steps < _MOST_STEPS:
        folder = RunFolder(former.parents[1])  # of RUN/checkpoints/best
        if folder.conf.is_file():
            kept[_STARTED_FROM] = _recipe(flatten(read_object(folder.conf)), steps + 1)
    return str(sorted(kept.items()))
