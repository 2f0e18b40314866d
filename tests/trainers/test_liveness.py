"""Whatever goes wrong, a run ends: within seconds, with its reason, and no process of it is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from tests.trainers.toy import Squares, ToyItems, toy
from trainers.interruption import Interruption
from trainers.objective import ObjectiveOutput

SECONDS = 60  # a hang would be for ever; a loaded machine takes its time


class Failing(Squares):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, model: nn.Module, batch: dict, step: int) -> ObjectiveOutput:
        if step == 2:
            raise self.error
        return super().__call__(model, batch, step)


def items_with(fault: object) -> ToyItems:
    items = ToyItems()
    items.values[3] = fault
    return items


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_item_is_its_own_error(tmp_path: Path, workers: int) -> None:
    """And not the traceback of the worker that met it."""
    with pytest.raises(ValueError, match=r"^a\.jpg is broken$"):
        toy(tmp_path, items=items_with(ValueError("a.jpg is broken")), num_workers=workers).run()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_a_line_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"process that loads images died .*lower data.num_workers"):
        toy(tmp_path, items=items_with(die), num_workers=2).run()
    assert multiprocessing.active_children() == []


class Broken:
    """The iterator of a loader whose worker dies while it hands a batch over, and again while it is told to leave."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self._workers: list = []

    def __iter__(self) -> "Broken":
        return self

    def __next__(self) -> None:
        raise self.error

    def _shutdown_workers(self) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")


class BrokenLoader:
    def __init__(self, error: Exception) -> None:
        self._iterator = Broken(error)

    def __iter__(self) -> Broken:
        return self._iterator


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        ConnectionRefusedError(),
        EOFError(),
        RuntimeError("DataLoader worker died"),
    ],
)
def test_a_worker_that_dies_at_any_moment_is_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("trainers.loop.training_loader", lambda *_, **__: BrokenLoader(error))
    with pytest.raises(ChildProcessError, match=r"process that loads images died .*lower data.num_workers"):
        toy(tmp_path).run()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("an operator failed"), "an operator failed"),
        (torch.OutOfMemoryError("tried to allocate"), "out of memory: lower train.batch_size"),
        (ValueError("the reward style is nan"), "the reward style is nan"),
    ],
)
def test_an_error_in_an_update_leaves_no_worker(tmp_path: Path, error: Exception, message: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=message):
        toy(tmp_path, objective=Failing(error), num_workers=2).run()
    assert multiprocessing.active_children() == []


def run_program(tmp_path: Path, text: str) -> "subprocess.Popen[str]":
    program = f"""
        import sys, time
        from pathlib import Path
        from tests.trainers.toy import Squares, ToyItems, toy
        from tests.trainers.test_liveness import Failing
        folder = Path({str(tmp_path)!r})
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program) + textwrap.dedent(text)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_an_error_that_nobody_catches_ends_the_process(tmp_path: Path) -> None:
    """The interpreter's exit once waited for workers for ever, while the traceback held them."""
    process = run_program(tmp_path, "toy(folder, objective=Failing(RuntimeError('no')), num_workers=2).run()")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert errors.strip().endswith("RuntimeError: no")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_a_second_one_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """The main thread waits where it hears no signal: in a lock of another thread that never comes free."""
    process = run_program(
        tmp_path,
        """
        import ctypes
        class Stuck(Squares):
            def __call__(self, *arguments):
                print("here", flush=True)
                mutex = (ctypes.c_char * 128)()
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
                ctypes.CDLL(None).pthread_mutex_lock(mutex)  # waits for itself
        toy(folder, objective=Stuck()).run()
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    interruption = Interruption()
    with interruption.deferred():
        signal.raise_signal(signal.SIGHUP)
        assert interruption.noted
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
