"""What a run tells while it trains: a progress bar, log lines, and `history.jsonl` for the report."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modelscope.trainers.hooks.builder import HOOKS
from modelscope.trainers.hooks.hook import Hook
from modelscope.trainers.hooks.priority import Priority
from tqdm import tqdm

if TYPE_CHECKING:
    from trainers.ofa_trainer import OFATrainer

LOGGER = logging.getLogger("stylecap")
HISTORY_FILE = "history.jsonl"


@HOOKS.register_module(module_name="StylecapProgressHook")
class ProgressHook(Hook):
    """Averages what `train_step` logged over `interval` updates; shows, logs and keeps the averages."""

    PRIORITY = Priority.VERY_LOW

    def __init__(self, interval: int):
        self.interval = interval
        self.bar: tqdm | None = None

    def before_run(self, trainer: "OFATrainer") -> None:
        self.file = Path(trainer.work_dir) / HISTORY_FILE
        keep_history(self.file, trainer.iter)
        self._restart(trainer)
        self.bar = tqdm(
            total=trainer.max_iters,
            initial=trainer.iter,
            desc="train",
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def after_train_iter(self, trainer: "OFATrainer") -> None:
        for name, value in trainer.train_outputs.items():
            self.values.setdefault(name, []).append(value)
        self.updates += 1
        assert self.bar is not None
        self.bar.update()
        done = trainer.iter + 1
        if done % self.interval and done != trainer.max_iters:
            return
        seconds = (time.monotonic() - self.started) / self.updates
        entry = {"step": done, "epoch": trainer.epoch, "seconds_per_step": seconds}
        entry |= {name: sum(values) / len(values) for name, values in self.values.items()}
        self.bar.set_postfix(loss=f"{entry['loss']:.3f}", lr=f"{entry['lr']:.1e}")
        if self.bar.disable:
            left = time.strftime("%H:%M:%S", time.gmtime(seconds * (trainer.max_iters - done)))
            LOGGER.info(
                "step %d/%d: loss %.3f, lr %.1e, %.2f s a step, %s left",
                done, trainer.max_iters, entry["loss"], entry["lr"], seconds, left,
            )  # fmt: skip
        append_history(self.file, entry)
        self._restart(trainer)

    def after_run(self, trainer: "OFATrainer") -> None:
        if self.bar is not None:
            self.bar.close()

    def restart_clock(self) -> None:
        """Leave what happened since the last update (an evaluation, say) out of the seconds a step."""
        self.started += time.monotonic() - self.paused

    def pause_clock(self) -> None:
        self.paused = time.monotonic()

    def _restart(self, trainer: "OFATrainer") -> None:
        self.values: dict[str, list[float]] = {}
        self.updates = 0
        self.started = time.monotonic()


def append_history(file: Path, entry: dict) -> None:
    """Add one line of JSON; a line is written at once, so that a killed run loses none."""
    rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in entry.items()}
    with open(file, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(rounded) + "\n")


def keep_history(file: Path, step: int) -> None:
    """Forget entries after update `step`: a resumed run goes through those updates again."""
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
