"""Running a sweep: trials spread over devices, one at a time on each; what is done is not done again."""

import json
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from config import TaskConfig, parse_config
from data.files import read_object, write_json
from data.run_folder import RunFolder
from sweeps.display import Display
from sweeps.ledger import BEST, prune, ranked, value, write_ledger
from sweeps.search import Sweep, Trial, survivors, trials, with_budget
from sweeps.trial import Outcome, Runner, run_process, run_trial
from tasks import task_of

LOGGER = logging.getLogger("stylecap")
BASE_FILE = "base.json"


def run_sweep(
    sweep: Sweep,
    base: TaskConfig,
    devices: Sequence[str],
    *,
    runs: Path,
    environment: Mapping[str, str],
    run: Runner = run_process,
) -> dict[str, Any]:
    """Run all trials of a sweep that are not done yet.

    Args:
        base: the configuration that the trials vary.
        devices: numbers of GPUs, or "cpu"; each has one trial at a time.
        runs: the folder whose `sweeps/NAME` is the sweep's.
        environment: of the processes that train.
        run: how a command is run.

    Returns:
        `trials`, `done`, `failed`, and `best`: what best.json holds (None where nothing succeeded).

    Raises:
        ValueError: settings that contradict each other or the base; a folder with the sweep of another base.
    """
    folder = runs / "sweeps" / sweep.name
    found = trials(sweep)
    for trial in found:
        check_trial(base, trial)
    folder.mkdir(parents=True, exist_ok=True)
    keep_base(folder, base)
    state = _State(sweep, folder)
    with Display(state.snapshot) as display:
        work = _Work(folder, base, devices, environment, run, state, display)
        if sweep.budget is None:
            state.finalists = {trial.name for trial in found}
            work.all_of(found)
        else:
            _halve(sweep, found, work, state)
    failed = sum(one.failure is not None for one in state.outcomes.values())
    best = read_object(folder / BEST) if (folder / BEST).exists() else None
    return {"trials": len(state.outcomes), "done": len(state.outcomes) - failed, "failed": failed, "best": best}


@dataclass
class _State:
    """What is known of the trials; its methods hold the lock."""

    sweep: Sweep
    folder: Path
    finalists: set[str] = field(default_factory=set)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: dict[str, tuple[str, Path]] = field(default_factory=dict)  # name -> device, folder
    planned: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, trial: Trial, device: str) -> None:
        with self.lock:
            self.running[trial.name] = (device, self.folder / trial.name)

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Note what came of a trial, write it down, and remove models that nobody asked to keep."""
        with self.lock:
            self.running.pop(trial.name, None)
            self.outcomes[trial.name] = outcome
            found = list(self.outcomes.values())
            write_ledger(self.folder, found, self.finalists, self.sweep.metric, self.sweep.goal)
            best = ranked([one for one in found if one.name in self.finalists], self.sweep.metric, self.sweep.goal)
            prune(found, {one.name for one in best[: self.sweep.keep]})

    def snapshot(self) -> dict[str, Any]:
        """For the display: counts, the best score, and what runs where."""
        with self.lock:
            finals = [one for one in self.outcomes.values() if one.name in self.finalists]
            best = ranked(finals, self.sweep.metric, self.sweep.goal)
            return {
                "planned": self.planned,
                "done": len(self.outcomes),
                "failed": sum(one.failure is not None for one in self.outcomes.values()),
                "metric": self.sweep.metric,
                "best": (best[0].name, value(best[0], self.sweep.metric)) if best else None,
                "running": dict(self.running),
            }


@dataclass
class _Work:
    """Runs trials on devices."""

    folder: Path
    base: TaskConfig
    devices: Sequence[str]
    environment: Mapping[str, str]
    run: Runner
    state: _State
    display: Display

    def all_of(self, found: Iterable[Trial]) -> list[Outcome]:
        """Run these, as many at a time as there are devices; their outcomes."""
        waiting = list(found)
        self.state.planned += len(waiting)
        free: SimpleQueue[str] = SimpleQueue()
        for device in self.devices:
            free.put(device)
        pool = ThreadPoolExecutor(len(self.devices))
        try:
            futures = [pool.submit(self._one, trial, free) for trial in waiting]
            return [future.result() for future in as_completed(futures)]
        finally:
            # After Ctrl-C or a bug nothing new starts; what runs has had the signal too, and saves a checkpoint.
            pool.shutdown(cancel_futures=True)

    def _one(self, trial: Trial, free: "SimpleQueue[str]") -> Outcome:
        device = free.get()
        try:
            self.state.start(trial, device)
            folder = self.folder / trial.name
            share_drawn_set(self.folder, folder, self.base, trial)
            outcome = run_trial(folder, self.folder / BASE_FILE, trial.settings, device, self.environment, self.run)
            self.state.finish(trial, outcome)
            self.display.event(outcome)
            return outcome
        finally:
            free.put(device)


def _halve(sweep: Sweep, found: list[Trial], work: _Work, state: _State) -> None:
    """Successive halving: every level runs its trials anew with more, so that schedules fit their length."""
    assert sweep.budget is not None
    levels = sweep.budget.levels
    for number, level in enumerate(levels):
        of_level = {with_budget(trial, sweep.budget.key, level).name: trial for trial in found}
        state.finalists = set(of_level)
        outcomes = work.all_of([with_budget(trial, sweep.budget.key, level) for trial in found])
        order = ranked(outcomes, sweep.metric, sweep.goal)
        if number + 1 < len(levels):
            found = [of_level[one.name] for one in order[: survivors(len(of_level), number, levels)]]


def check_trial(base: TaskConfig, trial: Trial) -> None:
    """ValueError, naming the trial, for settings that contradict the base or each other."""
    sets = [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()]
    parse_config(base.to_dict(), sets=sets, where=f"trial {trial.name}")


def keep_base(folder: Path, base: TaskConfig) -> None:
    """Write the base down, or see that it is the one that the sweep began with."""
    path = folder / BASE_FILE
    document = base.to_dict()
    if path.exists():
        former = read_object(path)
        if former != document:
            raise ValueError(
                f"{folder} holds a sweep over another configuration (see {path}): give this one another name, or "
                "remove that folder"
            )
    else:
        write_json(path, document)


def share_drawn_set(sweep_folder: Path, folder: Path, base: Any, trial: Trial) -> None:
    """One drawn data set for all trials that would draw the same."""
    drawn = task_of(base).drawn_set(base)
    if drawn is None or drawn.depends_on & trial.settings.keys():
        return
    shared = RunFolder(sweep_folder).drawn_data
    drawn.draw(shared)
    folder.mkdir(parents=True, exist_ok=True)
    link = RunFolder(folder).drawn_data
    if not link.exists():
        link.symlink_to(shared.resolve(), target_is_directory=True)
