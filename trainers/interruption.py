"""Ctrl-C in training: the update in progress ends, a checkpoint is saved, then the run stops."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

LOGGER = logging.getLogger("stylecap")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 2.0  # for the second signal to be heard by Python before the process is ended for it
EXIT_CODE = 130


class Interruption:
    """Whether Ctrl-C, SIGTERM or SIGHUP (a terminal that closes) arrived while `deferred` was in force."""

    def __init__(self) -> None:
        self.noted = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """The first signal is only noted, so that training stops between two updates; the second one stops at once,
        also where the main thread waits in code that hears no signal."""

        def note(number: int, frame: Any) -> None:
            if self.noted:
                raise KeyboardInterrupt
            self.noted = True
            LOGGER.warning("interrupted: saving a checkpoint after this update (again to stop at once)")

        if threading.current_thread() is not threading.main_thread():
            yield  # whoever runs us in a thread handles signals
            return
        former = {number: signal.signal(number, note) for number in SIGNALS}
        with _ended_by_the_second():
            try:
                yield
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)


@contextlib.contextmanager
def _ended_by_the_second() -> Iterator[None]:
    """A thread counts signals as they arrive, for Python's own handlers run in the main thread only."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    left = threading.Event()

    def count() -> None:
        seen = 0
        while number := os.read(reading, 1):
            seen += number[0] in SIGNALS
            if seen > 1 and not left.wait(_GRACE_S):
                for child in multiprocessing.active_children():
                    child.kill()
                os._exit(EXIT_CODE)

    thread = threading.Thread(target=count, name="second-signal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(former)
        os.close(writing)
        thread.join()
        os.close(reading)
