"""A run's folder survives everything: a kill between any two file-system events, a second process, torn files."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from data.files import claimed
from data.run_folder import RunFolder
from tests.conftest import ROOT
from tests.trainers.toy import ToyItems, outcome, toy
from trainers.history import History, read_history

KILLED = 99
_EVENTS = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def child(folder: Path, kill_at: int) -> int:
    """Trains in a process that ends itself before file-system event `kill_at`; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wax"
        if (event in _EVENTS or writes) and str(folder) in str(arguments[0]):
            seen += 1
            if seen == kill_at:
                os._exit(KILLED)

    try:
        sys.addaudithook(hook)
        toy(folder).run(resume=True)
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_a_kill_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    """The run that goes on ends where the one that was never killed does: weights, history, links, no leftovers."""
    toy(tmp_path / "whole").run()
    whole = outcome(tmp_path / "whole")
    assert len(whole["history"]) == 5  # updates 4 and 6, validations after 2, 4 and 6
    kill_at, killed = 1, 0
    while (code := child(tmp_path / f"{kill_at}", kill_at)) != 0:
        assert code == KILLED, f"event {kill_at}"
        killed += 1
        toy(tmp_path / f"{kill_at}").run(resume=True)
        assert outcome(tmp_path / f"{kill_at}") == whole, f"killed before event {kill_at}"
        kill_at += 1
    assert killed >= 30


def test_links_that_were_not_copied_are_found_again(tmp_path: Path) -> None:
    toy(tmp_path / "whole").run()
    toy(tmp_path / "run", max_steps=4).run()
    (tmp_path / "run" / "checkpoints" / "last").unlink()
    (tmp_path / "run" / "checkpoints" / "best").unlink()
    assert toy(tmp_path / "run").run(resume=True)["step"] == 6
    assert outcome(tmp_path / "run")["links"] == outcome(tmp_path / "whole")["links"]


def test_a_torn_line_of_the_history_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path / "history.jsonl")
    history.log(1, 0, {"loss": 2.0})
    with open(history.file, "a") as stream:
        stream.write('{"step": 2, "lo')
    assert [entry["step"] for entry in read_history(history.file)] == [1]
    assert "line 2 is cut short" in caplog.text
    history.keep(1)
    history.log(2, 0, {"loss": float("nan"), "spread": float("inf")})
    lines = history.file.read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"step": 1, "epoch": 0, "loss": 2.0},
        {"step": 2, "epoch": 0, "loss": None, "spread": None},
    ]


def test_history_at_a_window_is_that_of_a_run_never_interrupted(tmp_path: Path) -> None:
    """Interrupted after update 2 of a window of 4: the average is over all four."""
    toy(tmp_path / "whole").run()
    toy(tmp_path / "run", max_steps=None, max_epochs=1).run()
    loop = toy(tmp_path / "parts")
    loop.interruption.noted = True
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert loop.step == 1
    toy(tmp_path / "parts").run(resume=True)
    assert outcome(tmp_path / "parts")["history"] == outcome(tmp_path / "whole")["history"]


# --- one process a folder --------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_with_its_holder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    program = (
        "import sys; from data.run_folder import RunFolder as F; c = F(sys.argv[1]).claim(); print(flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(folder.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ValueError, match=rf"run is in use by pid {holder.pid} on .*--work_dir"):
            folder.claim()
        holder.kill()
    folder.claim().close()  # a process that died holds nothing


def test_a_claim_ends_with_its_file(tmp_path: Path) -> None:
    claimed(tmp_path / "lock", "wait").close()
    claimed(tmp_path / "lock", "wait").close()


# --- the data of a run -----------------------------------------------------------------------------------------------


def test_changed_data_are_refused_and_named(tmp_path: Path) -> None:
    toy(tmp_path, max_steps=2, data={"captions": "a", "images": "b"}).run()
    with pytest.raises(ValueError, match="the images are not those .*--allow-changed-data"):
        toy(tmp_path, data={"captions": "a", "images": "c"}).run(resume=True)
    changed = {"captions": "a", "images": "c"}
    assert toy(tmp_path, data=changed, allow_changed_data=True).run(resume=True)["step"] == 6


@pytest.mark.parametrize("items", [2, 3, 4])
def test_fewer_items_than_before_end_the_epoch(tmp_path: Path, items: int) -> None:
    """The position within the epoch may lie behind its end now: the run goes on with the next one, and ends."""
    toy(tmp_path, max_steps=2, checkpoint_every=1).run()
    done = threading.Timer(20, lambda: os._exit(3))  # it looped for ever once
    done.start()
    try:
        loop = toy(tmp_path, items=ToyItems(items), max_epochs=3)
        assert loop.run(resume=True)["step"] == loop.max_steps == max(2, 3 * (items // 2))
    finally:
        done.cancel()


def test_waits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def slow() -> dict[str, float]:
        time.sleep(0.5)
        return {"score": 1.0}

    toy(tmp_path, scores=slow, max_steps=1, stall_warning_s=0.1).run()
    assert "waiting for validation for" in caplog.text
