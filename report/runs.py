"""What a report knows of a run: the files in its folder, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import flatten, read_list, read_object
from data.run_folder import RunFolder
from evaluation.bootstrap import Contributions
from evaluation.comparison import read_contributions
from trainers.history import read_history
from trainers.step_rows import read_rows


@dataclass(frozen=True)
class EvaluatedRun:
    """A run that has been evaluated.

    Attributes:
        name: short, and of this run alone on its page.
        metrics: of metrics.json; `controls`: likewise, of the controls that were measured.
        predictions: of predictions.json; `contributions`: the same as numbers.
        history: of history.jsonl, a row a logged update or validation; empty for captions of another system.
        conf: key -> value, flat; empty likewise.
        samples: of samples.jsonl, captions that step 2 sampled; empty likewise.
        warnings: of warnings.jsonl, what went wrong in training; empty likewise.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    controls: dict[str, dict[str, Any]]
    predictions: list[dict[str, Any]]
    contributions: Contributions
    history: list[dict[str, Any]]
    conf: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)

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
    files = RunFolder(folder)
    return EvaluatedRun(
        name=name,
        folder=folder,
        metrics=read_object(files.metrics),
        controls={control: read_object(path) for control, path in files.controls().items()},
        predictions=read_list(files.predictions),
        contributions=contributions,
        history=read_history(files.history),
        conf=flatten(read_object(files.conf)) if files.conf.exists() else {},
        samples=read_rows(files.samples),
        warnings=read_rows(files.warnings),
    )


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The folders' last names where these tell them apart, else the folders; a folder given twice is numbered."""
    last = [path.resolve().name for path in paths]
    names = last if len(set(last)) == len(last) else [str(path) for path in paths]
    return [name if names.count(name) == 1 else f"{name} ({row + 1})" for row, name in enumerate(names)]
