"""What goes wrong while a run trains: said at once in the log, and kept for its report."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.observer import Observer, Position
from trainers.step_rows import add_rows, keep_rows

LOGGER = logging.getLogger("stylecap")
DIFFERENT = "different"
"""Of validation scores and of sampled candidates: the share of different captions."""
_FALL = 0.7  # of the largest share of different captions that a validation has found


class Warnings:
    """The warnings of a run, a line of JSON each with its step."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def tell(self, step: int, text: str) -> None:
        LOGGER.warning("step %d: %s", step, text)
        add_rows(self.file, step, [{"warning": text}])

    def keep(self, step: int) -> None:
        """Forget those after this step: a resumed run meets them again."""
        keep_rows(self.file, step)


def fall_of_variety(now: float, highest: float) -> str | None:
    """What is wrong with the share of different captions in a validation, given the largest so far; None if nothing."""
    if now >= _FALL * highest:
        return None
    return (
        f"{now:.0%} of the captions of the validation are different, and {highest:.0%} were: many images are said "
        "to show the same; lower train.lr, or in step 2 set scst.kl_weight or weigh content less in scst.rewards"
    )


class VarietyWatch(Observer):
    """Warns once when validations find fewer different captions than before."""

    def __init__(self, told: Warnings) -> None:
        self.told = told
        self.highest = 0.0
        self.fell = False

    def run_begins(self, loop: Position) -> None:
        self.told.keep(loop.step)

    def validated(self, loop: Position, scores: Mapping[str, float]) -> None:
        now = scores.get(f"val/{DIFFERENT}")
        if now is None:
            return
        self.highest = max(self.highest, now)
        text = fall_of_variety(now, self.highest)
        if text is not None and not self.fell:
            self.fell = True
            self.told.tell(loop.step, text)

    def state(self) -> dict[str, Any]:
        return {"highest": self.highest, "fell": self.fell}

    def resume(self, state: dict[str, Any]) -> None:
        """Earlier versions kept nothing."""
        self.highest, self.fell = state.get("highest", 0.0), state.get("fell", False)
