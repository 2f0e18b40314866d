"""The page: one HTML file that needs no network, readable on a phone, in light and in dark."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from data.files import write_text
from data.run_folder import RunFolder
from evaluation.bootstrap import LEVEL
from report import plots, tables, trade_offs
from report.cards import Describe, cards
from report.runs import EvaluatedRun, read_runs

_TEMPLATE = "template.html.j2"
_CURVES = {
    "loss": "Loss",
    "nll": "Negative log-likelihood of a token",
    "reward": "Reward",
    "style_accuracy": "Share of candidates in the asked style",
    "different": "Share of candidates that no other prompt of the batch has",
    "style_likeness": "Likeness of candidates in different styles of an image",
    "entropy": "Entropy of a token, nats",
    "length": "Length of candidates, tokens",
    "ended": "Share of candidates that end",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "seconds_per_step": "Seconds a step",
}
"""Columns of the history that are shown, besides those that begin with one of the following."""
_PREFIXES = {
    "loss/": "Loss: {}",
    "right/": "Share that is right: {}",
    "reward/": "Reward: {}",
    "val/": "Validation: {}",
}
_PREFIXES |= {"dictionary/": "Entropy of the attention over the dictionary of {}, nats"}
_IN_NUMBERS = ("dictionary/",)  # whose first, last and evaluated values stand beside the title
_FEWEST = 3  # runs from which on scores are plotted over the parameters that differ


def write_report(
    folders: Sequence[str],
    output: str | None = None,
    *,
    describe: Describe,
    captions: int = 6,
    replicates: int = 1000,
) -> Path:
    """Write the page about these runs, and return its path.

    Args:
        folders: of evaluated runs; differences are from the first.
        output: the file; None is `report.html` in the first folder.
        describe: a row of predictions.json -> what the page shows of it.
        captions: images shown of the best, the worst and the random captions.
        replicates: draws behind the intervals.

    Raises:
        ValueError: a folder that has not been evaluated, or a broken file in it.
    """
    runs = read_runs(folders)
    path = Path(output) if output else RunFolder(runs[0].folder).report
    page = _environment().get_template(_TEMPLATE).render(context(runs, captions, replicates, describe))
    write_text(path, page)
    return path


def context(runs: Sequence[EvaluatedRun], captions: int, replicates: int, describe: Describe) -> dict[str, Any]:
    """What the template shows."""
    colours = {run.name: plots.COLOURS[row % len(plots.COLOURS)] for row, run in enumerate(runs)}
    return {
        "title": runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(runs) - 1} more",
        "runs": runs,
        "colours": colours,
        "level": f"{100 * LEVEL:.0f}",
        "overall": tables.overall(runs, replicates),
        "per_style": tables.per_style(runs),
        "controls": tables.controls(runs),
        "trade_offs": _trade_offs(runs),
        "spans": [(run.name, _spans(run)) for run in runs if run.metric("spans")],
        "confusions": [(run.name, _confusion(run)) for run in runs if run.metric("style.confusion")],
        "warnings": [(run.name, run.warnings) for run in runs if run.warnings],
        "curves": _curves(runs, colours),
        "samples": [(run.name, table) for run in runs if (table := tables.samples(run))],
        "parameters": _parameters(runs, colours),
        "settings": tables.settings(runs),
        "configurations": [(run.name, json.dumps(run.conf, indent=1)) for run in runs if run.conf],
        "cards": cards(runs, captions, describe),
        "headline": [measure.title for measure in tables.headline(runs)],
    }


def _environment() -> jinja2.Environment:
    # Captions and names are anybody's text: escaped, all of it.
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    return environment


def _curves(runs: Sequence[EvaluatedRun], colours: dict[str, str]) -> list[tuple[str, str]]:
    """(title, SVG) of each column that a run's history has."""
    there = dict.fromkeys(key for run in runs for row in run.history for key in row)
    titles = {key: title for key, title in _CURVES.items() if key in there}
    for prefix, title in _PREFIXES.items():
        titles |= {key: title.format(key.removeprefix(prefix)) for key in there if key.startswith(prefix)}
    drawn = []
    for key, title in titles.items():
        series = {run.name: run.curve(key) for run in runs}
        series = {name: curve for name, curve in series.items() if curve[0]}
        if series and key.startswith(_IN_NUMBERS):
            evaluated = {run.name: _evaluated(run, key) for run in runs}
            numbers = [
                f"{name} from {values[0]:.2f} to {values[-1]:.2f}{evaluated[name]}"
                for name, (_, values) in series.items()
            ]
            title = f"{title}: {', '.join(numbers)}"
        if series:
            drawn.append((title, plots.curves(series, colours)))
    return drawn


def _evaluated(run: EvaluatedRun, key: str) -> str:
    """What metrics.json says of a dictionary whose curve is shown."""
    layers = run.metric(f"dictionaries.{key.removeprefix('dictionary/')}") or {}
    found = [f"{layer}: {one['nats']:.2f}, {100 * one['share']:.0f}% of the most" for layer, one in layers.items()]
    return f" (evaluated, {'; '.join(found)})" if found else ""


def _trade_offs(runs: Sequence[EvaluatedRun]) -> dict[str, Any]:
    """The runs in content, style and variety, with the colour of its recipe each, and two plots of it; empty for too
    few runs."""
    found = trade_offs.trade_offs(runs)
    if not found:
        return {}
    recipes = list(dict.fromkeys(one.recipe for one in found))
    of_points = [plots.COLOURS[recipes.index(one.recipe) % len(plots.COLOURS)] for one in found]
    marked = [one.front for one in found]
    style = plots.trade_off(
        [(one.content, one.style) for one in found],
        of_points,
        marked,
        ("CIDEr", "asked style is found, %"),
        line=trade_offs.people_in_style(runs),
    )
    variety = plots.trade_off(
        [(one.content, one.variety) for one in found], of_points, marked, ("CIDEr", "different captions, %")
    )
    return {
        "rows": list(zip(found, of_points, strict=True)),
        "plots": [("Content and style", style), ("Content and variety", variety)],
    }


def _parameters(runs: Sequence[EvaluatedRun], colours: dict[str, str]) -> list[tuple[str, str]]:
    """(parameter, SVG of the headline score over it) of each number that differs between several runs."""
    score = next((measure.path for measure in tables.headline(runs)), "")
    scored = [run for run in runs if run.conf and run.metric(score) is not None]
    if len(scored) < _FEWEST:
        return []
    keys = [key for key, _ in tables.settings(scored)]
    drawn = []
    for key in keys:
        known = [run for run in scored if _is_number(run.conf.get(key))]
        if len({run.conf[key] for run in known}) > 1:
            values = [(float(run.conf[key]), 100 * run.metric(score)) for run in known]
            drawn.append((key, plots.points(values, [colours[run.name] for run in known])))
    return drawn


def _spans(run: EvaluatedRun) -> list[tuple[str, str]]:
    """(type of question, SVG of the weights of its attention spans in each layer)."""
    return [
        (name, plots.span_map([_span_name(span) for span in table], list(table.values())))
        for name, table in run.metrics["spans"].items()
    ]


def _span_name(order: str) -> str:
    """An order of TRAR in words: 0 sees the whole grid, r > 0 so many cells around."""
    return "whole" if order == "0" else f"{2 * int(order) + 1} x {2 * int(order) + 1}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _confusion(run: EvaluatedRun) -> dict[str, Any]:
    found = tables.confusion(run)
    assert found is not None
    many = len(found.styles) > tables.MANY_STYLES
    return {"table": found, "picture": plots.heat_map(found.shares) if many else None}
