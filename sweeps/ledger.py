"""What came of a sweep, written after every run: results.jsonl, leaderboard.csv, best.json; and which models stay."""

import json
import math
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from data.files import write_json, write_text
from data.run_folder import RunFolder
from evaluation.results import to_csv
from sweeps.trial import Outcome

RESULTS, LEADERBOARD, BEST = "results.jsonl", "leaderboard.csv", "best.json"
_BOARD = ("CIDEr", "CIDEr-D", "BLEU-4", "ROUGE-L")  # beside the metric of the sweep


def value(outcome: Outcome, metric: str) -> float | None:
    """The metric of a finished trial, by its path in metrics.json; None where there is none."""
    node: Any = outcome.metrics
    for name in metric.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    number = isinstance(node, int | float) and not isinstance(node, bool) and math.isfinite(node)
    return float(node) if number else None


def ranked(outcomes: Sequence[Outcome], metric: str, goal: str) -> list[Outcome]:
    """Those that have the metric, best first; equal ones by name."""
    scored = [(value(one, metric), one) for one in outcomes]
    sign = -1 if goal == "max" else 1
    found = sorted((sign * score, one.name, one) for score, one in scored if score is not None)
    return [one for _, _, one in found]


def write_ledger(folder: Path, outcomes: Sequence[Outcome], finalists: Collection[str], metric: str, goal: str) -> None:
    """Write the three files anew, each whole or not at all.

    Args:
        outcomes: of all trials so far.
        finalists: names of those that compete for the first place: with halving, those of the highest level.
    """
    lines = [
        {
            "run": str(one.folder),
            "trial": one.name,
            "settings": one.settings,
            "status": "failed" if one.failure else "done",
            metric: value(one, metric),
            "metrics": one.metrics,
            "failure": one.failure,
        }
        for one in sorted(outcomes, key=lambda one: one.name)
    ]
    write_text(folder / RESULTS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    order = ranked([one for one in outcomes if one.name in finalists], metric, goal)
    others = ranked([one for one in outcomes if one.name not in finalists], metric, goal)
    names = dict.fromkeys((metric, *_BOARD))
    board = [
        {"rank": rank, "trial": one.name, **{name: value(one, name) for name in names}, **one.settings}
        for rank, one in enumerate([*order, *others], start=1)
    ]
    write_text(folder / LEADERBOARD, to_csv(board) + "\n" if board else "")
    if order:
        best = order[0]
        checkpoint = RunFolder(best.folder).checkpoints / "best"
        write_json(
            folder / BEST,
            {"trial": best.name, metric: value(best, metric), "settings": best.settings, "checkpoint": str(checkpoint)},
        )


def prune(outcomes: Sequence[Outcome], kept: Collection[str]) -> list[Path]:
    """Remove the checkpoints of finished trials that are not among `kept`; what was removed.

    Nothing is removed before every kept model is there and can be read.
    """
    wanted = [one for one in outcomes if one.name in kept]
    if not wanted or not all(_is_whole(RunFolder(one.folder).checkpoints / "best") for one in wanted):
        return []
    removed = []
    for one in outcomes:
        folder = RunFolder(one.folder).checkpoints
        if one.name not in kept and one.metrics is not None and folder.is_dir():
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


def _is_whole(checkpoint: Path) -> bool:
    """Whether the weights are all there: a safetensors file says at its start how long it is."""
    from safetensors import SafetensorError, safe_open

    from models.ofa.adapters import ADAPTER_FILE, is_adapter

    try:
        with safe_open(checkpoint / (ADAPTER_FILE if is_adapter(checkpoint) else "model.safetensors"), "np") as file:
            return bool(file.keys())
    except (OSError, SafetensorError):
        return False
