"""A sweep over a cluster: Ray Tune places the trials, and with a budget ASHA stops those that fall behind.

The same sweep file as for `sweeps.runner`. Its trials run to the last level of the budget, and asynchronous successive
halving (Li et al., arXiv:1810.05934) compares them by `train.best_metric` at their validations. The folder of the sweep
must be one that every machine sees under the same path. Needs the extra `ray`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config import TaskConfig
from data.files import write_json
from sweeps.ledger import BEST, prune, ranked, write_ledger
from sweeps.runner import BASE_FILE, check_trial, keep_base, share_drawn_set
from sweeps.search import Sweep, Trial, trials
from sweeps.trial import ROOT, Outcome, outcome, run_trial

_POLL_S = 0.5
_STOP_S = 120  # for a run that is told to stop to save its checkpoint


def run_on_ray(
    sweep: Sweep,
    base: TaskConfig,
    *,
    runs: Path,
    address: str,
    cpus_each: int = 1,
    gpus_each: float = 0,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Run all trials of a sweep that are not done yet on a Ray cluster.

    Args:
        runs: the folder whose `sweeps/NAME` is the sweep's.
        address: of the cluster; "local" starts one on this machine for as long as it takes.
        cpus_each, gpus_each: what a trial takes.
        environment: of the processes that train.

    Returns:
        As `run_sweep`, and `stopped`: trials that were given up early.

    Raises:
        ValueError: Ray is not installed; settings that contradict each other.
    """
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ValueError(f"a sweep on Ray needs the extra: pip install 'ray[tune]' ({error})") from error
    folder = (runs / "sweeps" / sweep.name).resolve()
    found = [_at_full_budget(sweep, trial) for trial in trials(sweep)]
    for trial in found:
        check_trial(base, trial)
    folder.mkdir(parents=True, exist_ok=True)
    keep_base(folder, base)
    for trial in found:
        share_drawn_set(folder, folder / trial.name, base, trial)
    ray.init(
        None if address == "local" else address,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    last_step = sweep.budget.levels[-1] if sweep.budget else sys.maxsize
    try:
        resources = {"cpu": cpus_each, "gpu": gpus_each}
        tuner = tune.Tuner(
            tune.with_resources(_trainable(base.train.best_metric, last_step, dict(environment)), resources),
            param_space={
                "folder": str(folder),
                "trial": tune.grid_search([{"name": trial.name, "settings": trial.settings} for trial in found]),
            },
            tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=_scheduler(sweep)),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        )
        tuner.fit()
    finally:
        ray.shutdown()
    return _summary(sweep, folder, found)


def _at_full_budget(sweep: Sweep, trial: Trial) -> Trial:
    if sweep.budget is None:
        return trial
    return Trial(trial.name, trial.settings | {sweep.budget.key: sweep.budget.levels[-1]})


def _scheduler(sweep: Sweep) -> Any:
    """ASHA over the levels of the budget; nothing is stopped without one."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if sweep.budget is None:
        return FIFOScheduler()
    first, second = sweep.budget.levels[:2]
    return ASHAScheduler(
        time_attr="step", max_t=sweep.budget.levels[-1], grace_period=first, reduction_factor=second / first
    )


def _trainable(best_metric: str, last_step: int, environment: dict[str, str]) -> Any:
    """A class that Ray runs, one object a trial, wherever there is room.

    The validation at `last_step` is kept back until the trial is evaluated: ASHA ends what has reached its last level.
    """
    from ray import tune

    class Training(tune.Trainable):
        """One trial: a step of it lasts until the next validation, the last one until the evaluation."""

        def setup(self, config: dict[str, Any]) -> None:
            self.trial = config["trial"]
            self.folder = Path(config["folder"]) / self.trial["name"]
            self.seen = 0
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, config["folder"], json.dumps(self.trial)],
                env=environment | {"PYTHONPATH": str(ROOT), **_visible()},
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        def step(self) -> dict[str, Any]:
            while True:
                ended = self.process.poll() is not None
                rows = [row for row in _history(self.folder) if f"val/{best_metric}" in row]
                if len(rows) > self.seen and rows[self.seen]["step"] < last_step:
                    row = rows[self.seen]
                    self.seen += 1
                    return {"step": row["step"], "score": row[f"val/{best_metric}"], "done": False}
                if ended:
                    last = rows[-1] if rows else {"step": 0}
                    score = last.get(f"val/{best_metric}", float("-inf"))
                    return {"step": last["step"], "score": score, "done": True}
                time.sleep(_POLL_S)

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Ray wants one at a trial's end; what there is to resume lies in the trial's own folder."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """See `save_checkpoint`."""

        def cleanup(self) -> None:
            """Given up, or done: whatever still runs saves a checkpoint and ends."""
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGTERM)
                try:
                    self.process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(self.process.pid, signal.SIGKILL)

    return Training


# In a process of its own: Ray's workers have other threads and another working directory.
_RUN = "import sys; from sweeps.on_ray import run_here; run_here(*sys.argv[1:])"


def run_here(folder: str, trial: str) -> None:
    """Train and evaluate one trial (JSON: `name`, `settings`) in the sweep's folder, on the device that Ray gave us."""
    found = json.loads(trial)
    device = os.environ.get("CUDA_VISIBLE_DEVICES") or "cpu"
    path = Path(folder)
    run_trial(path / found["name"], path / BASE_FILE, found["settings"], device, os.environ)


def _visible() -> dict[str, str]:
    """The GPUs that Ray gave this worker."""
    import ray

    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, ray.get_gpu_ids()))}


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "history.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line that is being written
            break
    return rows


def _summary(sweep: Sweep, folder: Path, found: list[Trial]) -> dict[str, Any]:
    """Write the ledger, keep the best models, and count."""
    outcomes = [one for trial in found if (one := _outcome(folder / trial.name, trial)) is not None]
    names = {trial.name for trial in found}
    write_ledger(folder, outcomes, names, sweep.metric, sweep.goal)
    best = ranked(outcomes, sweep.metric, sweep.goal)
    prune(outcomes, {one.name for one in best[: sweep.keep]})
    failed = sum(one.failure is not None for one in outcomes)
    summary = {
        "trials": len(found),
        "done": len(outcomes) - failed,
        "failed": failed,
        "stopped": len(found) - len(outcomes),
        "best": json.loads((folder / BEST).read_text(encoding="utf-8")) if best else None,
    }
    write_json(folder / "summary.json", summary)
    return summary


def _outcome(folder: Path, trial: Trial) -> Outcome | None:
    """None where the trial was stopped before it could be evaluated."""
    if (folder / "metrics.json").exists():
        return outcome(folder, trial.settings)
    if (folder / "failure.json").exists():
        failure = json.loads((folder / "failure.json").read_text(encoding="utf-8"))
        if failure["exit_code"] not in (130, 143, -signal.SIGTERM):
            return Outcome(trial.name, folder, trial.settings, failure=failure)
    return None
