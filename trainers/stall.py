"""Says what a run waits for when it waits long: a worker that is stuck, a reward that never returns, a lost rank."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("stylecap")


class StallWatch:
    """A thread that logs a line when something that `awaiting` names takes longer than `after_s` seconds, and again
    each time the wait has doubled. 0 never does."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._awaited: tuple[str, float] | None = None
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches as long as the block runs."""
        thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)
        if self.after_s:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()

    @contextmanager
    def awaiting(self, what: str) -> Iterator[None]:
        """The block waits for `what`."""
        self._awaited = (what, time.monotonic())
        try:
            yield
        finally:
            self._awaited = None

    def _watch(self) -> None:
        told: tuple[str, float] | None = None
        limit = self.after_s
        while not self._ended.wait(min(1.0, self.after_s / 4)):
            awaited = self._awaited
            if awaited is None:
                continue
            if awaited != told and limit != self.after_s:
                limit = self.after_s
            waited = time.monotonic() - awaited[1]
            if waited > limit:
                LOGGER.warning("waiting for %s for %.0f s", awaited[0], waited)
                told, limit = awaited, 2 * waited
