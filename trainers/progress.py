"""What a run tells while it trains: a progress bar, log lines, and averages for the history."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

from trainers.history import History
from trainers.observer import Observer, Position

LOGGER = logging.getLogger("stylecap")


class Progress(Observer):
    """Averages what updates logged over a window of `interval`; shows, logs and keeps the averages."""

    def __init__(self, interval: int, history: History) -> None:
        self.interval = interval
        self.history = history
        self.bar: tqdm | None = None
        self.values: dict[str, list[float]] = {}
        self.updates = 0
        self.started = self._paused = time.monotonic()

    def run_begins(self, loop: Position) -> None:
        self.started = time.monotonic()
        self.bar = tqdm(
            total=loop.max_steps,
            initial=loop.step,
            desc="train",
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.values.setdefault(name, []).append(value)
        self.updates += 1
        if self.bar is not None:
            self.bar.update()
        done = loop.step + 1
        if done % self.interval == 0 or done == loop.max_steps:
            self._log(loop, done)
            self._restart()

    def _log(self, loop: Position, done: int) -> None:
        seconds = (time.monotonic() - self.started) / self.updates
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        if "lr" in self.values:
            means["lr"] = self.values["lr"][-1]  # of this update: a mean over the window would be no update's rate
        loss, rate = means.get("loss", float("nan")), means.get("lr", float("nan"))
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.1e}")
        if self.bar is None or self.bar.disable:
            left = time.strftime("%H:%M:%S", time.gmtime(seconds * (loop.max_steps - done)))
            LOGGER.info(
                "step %d/%d: loss %.3f, lr %.1e, %.2f s a step, %s left",
                done, loop.max_steps, loss, rate, seconds, left,
            )  # fmt: skip
        self.history.log(done, loop.epoch, {"seconds_per_step": seconds, **means})

    def run_ended(self, loop: Position) -> None:
        if self.bar is not None:
            self.bar.close()

    def paused(self) -> None:
        """What happens until `resumed` (an evaluation, say) is left out of the seconds a step."""
        self._paused = time.monotonic()

    def resumed(self) -> None:
        self.started += time.monotonic() - self._paused

    def state(self) -> dict[str, Any]:
        """The window that is not full yet: a resumed run logs the averages of one that was never interrupted."""
        return {"values": self.values, "updates": self.updates}

    def resume(self, state: dict[str, Any]) -> None:
        self.values, self.updates = state["values"], state["updates"]

    def _restart(self) -> None:
        self.values = {}
        self.updates = 0
        self.started = time.monotonic()
