"""What a sweep is doing, on stderr: a table drawn anew on a terminal, elsewhere a line for each finished run."""

import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.trial import Outcome

LOGGER = logging.getLogger("stylecap")
_SECONDS = 2.0  # between two drawings
_TAIL = 4000  # bytes of a history that hold its last lines


class Display:
    """Shows `snapshot()` while it is open."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]):
        self.snapshot = snapshot
        self.live = sys.stderr.isatty()
        self.stopped = threading.Event()
        self.lines = 0
        self.thread = threading.Thread(target=self._draw_on, daemon=True)

    def __enter__(self) -> "Display":
        if self.live:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        if self.live:
            self.thread.join()
            self._draw()

    def event(self, outcome: Outcome) -> None:
        """Say what came of a trial."""
        if outcome.failure:
            last, command = outcome.failure["last_lines"], outcome.failure["command"]
            LOGGER.warning("%s failed: %s (see its %s.log)", outcome.name, last[-1] if last else "", command)
        if not self.live:
            LOGGER.info("%s", head(self.snapshot()))

    def _draw_on(self) -> None:
        while not self.stopped.wait(_SECONDS):
            self._draw()

    def _draw(self) -> None:
        rows = table(self.snapshot())
        up = f"\033[{self.lines}F\033[J" if self.lines else ""
        sys.stderr.write(up + "".join(f"{row}\n" for row in rows))
        sys.stderr.flush()
        self.lines = len(rows)


def head(state: dict[str, Any]) -> str:
    """Counts and the best so far, in a line."""
    text = f"{state['done']} of {state['planned']} runs done, {state['failed']} failed"
    if state["best"]:
        name, score = state["best"]
        text += f"; best {state['metric']} {score:.4g}: {name}"
    return text


def table(state: dict[str, Any]) -> list[str]:
    """The same, and a line for each running trial: its device, its name, its last step and scores."""
    rows = [head(state)]
    for name, (device, folder) in sorted(state["running"].items(), key=lambda item: item[1][0]):
        where = "cpu" if device == "cpu" else f"GPU {device}"
        rows.append(f"  {where:6} {name[:60]:60} {last_step(folder)}")
    return rows


def last_step(folder: Path) -> str:
    """The last row of a run's history in short."""
    path = folder / "history.jsonl"
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "starting"
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        shown = [f"{key.removeprefix('val/')} {row[key]:.4g}" for key in ("loss", "reward", "val/CIDEr") if key in row]
        return f"step {row.get('step')}: {', '.join(shown)}"
    return "starting"
