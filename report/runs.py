"""What a report knows of a run: the files in its folder, read once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.bootstrap import Contributions
from evaluation.comparison import PREDICTIONS_FILE, read_contributions
from evaluation.results import CONF_FILE, METRICS_FILE, flatten, read_list, read_object
from tasks.captioning.controls import CONTROLS

HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class EvaluatedRun:
    """A run that has been evaluated.

    Attributes:
        name: short, and of this run alone on its page.
        metrics: of metrics.json; `controls`: likewise, of the controls that were measured.
        predictions: of predictions.json; `contributions`: the same as numbers.
        history: of history.jsonl, a row a logged update or validation; empty for captions of another system.
        conf: key -> value, flat; empty likewise.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    controls: dict[str, dict[str, Any]]
    predictions: list[dict[str, Any]]
    contributions: Contributions
    history: list[dict[str, Any]]
    conf: dict[str, Any]

    def metric(self, path: str) -> Any:
        """`style.accuracy` -> its value; None where there is none."""
        return at(self.metrics, path)

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of one column of the history."""
        rows = [row for row in self.history if isinstance(row.get(key), int | float)]
        return [row["step"] for row in rows], [row[key] for row in rows]


def at(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a path of names with dots between; None where there is none."""
    node: Any = tree
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def read_runs(folders: Sequence[str | Path]) -> list[EvaluatedRun]:
    """The runs in the order given. ValueError for one that has not been evaluated, or a broken file."""
    paths = [Path(folder) for folder in folders]
    names = _short_names(paths)
    return [_read_run(path, name) for path, name in zip(paths, names, strict=True)]


def _read_run(folder: Path, name: str) -> EvaluatedRun:
    contributions = read_contributions(folder)
    controls = {control: folder / f"metrics.{control}.json" for control in CONTROLS}
    conf = folder / CONF_FILE
    return EvaluatedRun(
        name=name,
        folder=folder,
        metrics=read_object(folder / METRICS_FILE),
        controls={control: read_object(path) for control, path in controls.items() if path.exists()},
        predictions=read_list(folder / PREDICTIONS_FILE),
        contributions=contributions,
        history=_read_history(folder / HISTORY_FILE),
        conf=flatten(read_object(conf)) if conf.exists() else {},
    )


def _read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a history; the last one of a run that is being written may be cut short, and is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The folders' last names where these tell them apart, else the folders; a folder given twice is numbered."""
    last = [path.resolve().name for path in paths]
    names = last if len(set(last)) == len(last) else [str(path) for path in paths]
    return [name if names.count(name) == 1 else f"{name} ({row + 1})" for row, name in enumerate(names)]
