"""One run of a sweep: `finetune.py train`, then `eval`, as processes of their own, on one device."""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import read_object, write_json
from data.run_folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FILE = "settings.json"
FAILURE_FILE = "failure.json"
_LOCK = ".running"
_LAST_LINES = 20


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: its metrics, or the last lines of the command that failed."""

    name: str
    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any] | None = None
    failure: dict[str, Any] | None = field(default=None, compare=False)


Runner = Callable[[list[str], Path, Mapping[str, str], int], int]


def run_process(command: list[str], log: Path, environment: Mapping[str, str], lock: int) -> int:
    """Run a command, its output added to the file `log`; its exit code. It holds the file `lock` until it has ended."""
    with open(log, "ab") as stream:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=dict(environment),
            pass_fds=[lock],
            check=False,
        )
    return done.returncode


def run_trial(
    folder: Path,
    base: Path,
    settings: Mapping[str, Any],
    device: str,
    environment: Mapping[str, str],
    run: Runner = run_process,
) -> Outcome:
    """Train and evaluate in `folder`, unless that is done; training that was interrupted goes on.

    Args:
        base: the base configuration, a JSON file.
        device: the number of a GPU, or "cpu".
        environment: of the processes.
        run: how a command is run.

    A command that fails is recorded in `failure.json` with its last lines; the next call tries again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "w") as lock:
        # A run of a sweep that was killed may still be going on: its work is waited for, not repeated.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if RunFolder(folder).metrics.exists():
            return outcome(folder, settings)
        write_json(folder / SETTINGS_FILE, dict(settings))
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        common = [sys.executable, str(ROOT / "finetune.py"), "--conf", str(base), *sets, "--work_dir", str(folder)]
        resume = ["--resume"] if (RunFolder(folder).checkpoints / "last").exists() else []
        visible = dict(environment) | {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device}
        for name, command in (("train", [*common, "train", *resume]), ("eval", [*common, "eval"])):
            log = folder / f"{name}.log"
            code = run(command, log, visible, lock.fileno())
            if code:
                failure = {"command": name, "exit_code": code, "last_lines": _last_lines(log)}
                write_json(folder / FAILURE_FILE, failure)
                return Outcome(folder.name, folder, dict(settings), failure=failure)
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        return outcome(folder, settings)


def outcome(folder: Path, settings: Mapping[str, Any]) -> Outcome:
    """What the folder of a finished trial says."""
    return Outcome(folder.name, folder, dict(settings), metrics=read_object(RunFolder(folder).metrics))


def _last_lines(log: Path) -> Sequence[str]:
    if not log.exists():
        return []
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
