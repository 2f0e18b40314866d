"""Ctrl-C in training: the update in progress ends, a checkpoint is saved, then the run stops."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any

LOGGER = logging.getLogger("stylecap")


class Interruption:
    """Whether Ctrl-C or SIGTERM arrived while `deferred` was in force."""

    def __init__(self) -> None:
        self.noted = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """The first signal is only noted, so that training stops between two updates; the second one stops at once."""

        def note(number: int, frame: Any) -> None:
            if self.noted:
                raise KeyboardInterrupt
            self.noted = True
            LOGGER.warning("interrupted: saving a checkpoint after this update (again to stop at once)")

        try:
            former = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever runs us there handles signals
            former = {}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
