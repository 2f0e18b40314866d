"""What a run logs: `history.jsonl`, and the same numbers for TensorBoard and trackers."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import write_text
from data.reading import parse_json, read_bytes
from trainers.trackers import Tracker

LOGGER = logging.getLogger("stylecap")


class History:
    """The log of a run, a line of JSON for each entry; a line is written at once, so that a killed run loses none.

    Args:
        file: `history.jsonl`.
        tensorboard: the folder for TensorBoard's events; None writes none.
    """

    def __init__(self, file: Path, tensorboard: Path | None = None) -> None:
        self.file = file
        self.tensorboard = tensorboard
        self._writer: Any = None
        self.trackers: list[Tracker] = []

    def log(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds an entry. JSON has no NaN and no infinity: those numbers are null."""
        entry = {"step": step, "epoch": epoch, **{name: _rounded(value) for name, value in values.items()}}
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, allow_nan=False) + "\n")
        for tracker in self.trackers:
            tracker.log(step, values)
        if self.tensorboard is not None:
            for name, value in values.items():
                self._events().add_scalar(name, value, step)
            self._events().flush()

    def keep(self, step: int) -> None:
        """Forgets entries after update `step`: a resumed run goes through those updates again."""
        entries = read_history(self.file)
        kept = [json.dumps(entry) + "\n" for entry in entries if entry["step"] <= step]
        if self.file.exists() and "".join(kept) != self.file.read_text(encoding="utf-8"):
            write_text(self.file, "".join(kept))

    def has(self, step: int, name: str) -> bool:
        """Whether there is an entry of this update with a value of that name."""
        return any(entry["step"] == step and name in entry for entry in read_history(self.file))

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _events(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # half a second, which most commands need not pay

            self._writer = SummaryWriter(str(self.tensorboard))
        return self._writer


def read_history(file: Path) -> list[dict[str, Any]]:
    """The entries of a history; a last line that was cut short is left out with a warning. Empty without a file."""
    if not file.exists():
        return []
    entries, others = [], []
    for number, line in enumerate(read_bytes(file).decode("utf-8", "replace").splitlines(), start=1):
        try:
            entry = parse_json(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
        else:
            others.append(number)
    if others:
        more = f" (and {len(others) - 1} more)" if others[1:] else ""
        LOGGER.warning("%s: line %d is cut short or no entry: it is left out%s", file, others[0], more)
    return entries


def _rounded(value: float) -> float | int | None:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
