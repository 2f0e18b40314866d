"""Requests of all clients in one queue; a thread takes as many of a kind as a pass holds, and answers them together.

There is no waiting for a batch to fill: what comes while a pass runs is the next one.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

LOGGER = logging.getLogger("stylecap")


class Ask(Protocol):
    """What is asked of a model. Those of the same `kind` go into one pass; `size` says how much of one it takes."""

    @property
    def kind(self) -> Hashable: ...

    @property
    def size(self) -> int: ...


class Full(Exception):
    """The queue is full: come again later."""


@dataclass
class _Job:
    ask: Ask
    expires: float
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """Answers what is submitted, in order of arrival; a later request of the same kind may join an earlier one's pass.

    Args:
        run: the answers to requests of one kind, in their order. One that raises is asked again for each alone, so that
            no request fails for another's fault.
        size: most that a pass takes, as requests count it. A larger request is a pass of its own.
        limit: most requests that wait.
    """

    def __init__(self, run: Callable[[Sequence[Any]], Sequence[Any]], *, size: int, limit: int) -> None:
        self.run, self.size, self.limit = run, size, limit
        self.passes = self.answered = 0
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._jobs)

    def submit(self, ask: Ask, seconds: float) -> Future[Any]:
        """The answer to come. Cancelling it takes the request out of the queue, and so does time after `seconds`.

        Raises Full.
        """
        job = _Job(ask, time.monotonic() + seconds)
        with self._changed:
            if len(self._jobs) >= self.limit:
                self._drop_gone()
            if len(self._jobs) >= self.limit or self._closed:
                raise Full(f"{len(self._jobs)} requests are waiting already: come again later")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Ends the thread after the pass that is running; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                taken = self._take()
            # From here on a request is answered, whether its client still listens or not.
            started = [job for job in taken if job.future.set_running_or_notify_cancel()]
            if started:
                self._answer(started)

    def _take(self) -> list[_Job]:
        """The first job and those after it that go into its pass."""
        self._drop_gone()
        if not self._jobs:
            return []
        first, room = self._jobs[0], self.size
        taken, left = [], []
        for job in self._jobs:
            if job is first or (job.ask.kind == first.ask.kind and job.ask.size <= room):
                taken.append(job)
                room -= job.ask.size
            else:
                left.append(job)
        self._jobs = deque(left)
        return taken

    def _drop_gone(self) -> None:
        now = time.monotonic()
        for job in self._jobs:
            if job.expires < now:
                job.future.cancel()
        self._jobs = deque(job for job in self._jobs if not job.future.cancelled())

    def _answer(self, jobs: Sequence[_Job]) -> None:
        try:
            answers = self.run([job.ask for job in jobs])
            self.passes += 1
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
                return
            if not isinstance(error, ValueError):
                LOGGER.exception("a request failed")
            jobs[0].future.set_exception(error)
            return
        self.answered += len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)
