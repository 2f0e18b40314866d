"""Sections that every task has; a task's own add to them. Imports the standard library only."""
# ruff: noqa: RUF009  opt() declares a dataclass field

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from conf.typed import opt

RUNS = "work_dir"
"""The folder that holds the folders of runs."""
# fmt: off
Schedule = Literal[
    "linear", "polynomial", "cosine", "constant", "warmup_constant", "warmup_linear", "warmup_linear_yx",
    "warmup_cosine", "warmup_stair", "trar", "vqa_constant",
]
# fmt: on
"""How the rate falls: `trainers.schedules.learning_rate` has the formulas."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Optimizer, schedule, checkpoints: what every task's training is told."""

    max_epochs: int = opt(5, "passes over the training data", low=1, flag="max_epoches")
    max_steps: int | None = opt(None, "stop after this many optimizer steps, if sooner; null = no limit", low=1)
    batch_size: int = opt(16, "images of one forward pass on each rank", low=1, flag="batch_size")
    gradient_accumulation: int = opt(1, "forward passes of an optimizer step", low=1)
    lr: float = opt(5e-5, "peak learning rate, reached after warm-up", above=0, flag="lr")
    lr_end: float = opt(0.0, "learning rate at the end of the schedule", low=0, flag="lr_end")
    warmup_proportion: float = opt(
        0.06, "share of all steps in which the rate rises from 0", low=0, below=1, flag="warm_up"
    )
    warmup_steps: int = opt(0, "updates of warm-up, in place of train.warmup_proportion; 0 = by that share", low=0)
    schedule: Schedule = opt("polynomial", "how the rate falls after warm-up")
    schedule_every: float = opt(2.0, "warmup_stair: epochs between two drops", above=0)
    schedule_factor: float = opt(
        0.1, "warmup_stair, vqa_constant, trar: what a drop multiplies the rate by", above=0, high=1
    )
    schedule_drops: str = opt("4,6", "vqa_constant, trar: epochs, counted from 0, at whose beginning the rate drops")
    warmup_epochs: int = opt(3, "trar: epochs of even stairs up to the peak rate", low=0)
    weight_decay: float = opt(0.01, "AdamW's decoupled decay of weight matrices", low=0, below=1, flag="weight_decay")
    adam_betas: tuple[float, float] = opt((0.9, 0.999), "AdamW's decay rates of both moments", low=0, below=1)
    adam_eps: float = opt(1e-8, "AdamW's term against division by zero", above=0)
    ema: float = opt(
        0.0,
        "decay of the moving average of the weights that is validated and saved in their place; 0 = no average",
        low=0,
        below=1,
    )
    clip_norm: float = opt(1.0, "gradients are scaled down to this norm; 0 = never", low=0)
    dtype: Literal["float32", "bfloat16", "float16"] = opt(
        "bfloat16", "autocast type of matrix products, weights stay float32; float16 needs a GPU"
    )
    gradient_checkpointing: bool = opt(False, "recompute activations in the backward pass: less memory, more time")
    sharding: Literal["none", "fsdp"] = opt(
        "none", "divide parameters and optimizer state over the ranks of torchrun, for models that do not fit on one"
    )
    checkpoint_every: Literal["epoch"] | int = opt(
        "epoch", "save and validate after every epoch, or after every that many optimizer steps", low=1
    )
    keep_checkpoints: int = opt(2, "checkpoints kept beside the best one", low=1)
    early_stop_patience: int | None = opt(
        None, "stop after this many validations without a better score; null = never", low=1
    )
    log_every: int = opt(20, "optimizer steps between two log lines", low=1)
    best_metric: str = opt("", "validation score that names the best checkpoint")
    tensorboard: bool = opt(True, "write TensorBoard events into work_dir")
    report_to: tuple[Literal["tensorboard", "wandb", "swanlab", "trackio", "mlflow"], ...] = opt(
        (), "trackers that are told what history.jsonl says; each must be installed, and keeps its own settings"
    )
    project: str = opt("stylecap", "what trackers file the run under")
    max_skipped_updates: int = opt(
        10, "stop after more than this many updates in a row whose loss or gradient is not a finite number", low=0
    )
    stall_warning_s: float = opt(120.0, "seconds of waiting after which the log says for what; 0 = never", low=0)
    collective_timeout_s: float = opt(1800.0, "seconds that a rank waits for the others before the run ends", above=0)

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.lr_end > self.lr:
            yield f"train.lr_end = {self.lr_end:g} is above train.lr = {self.lr:g}; lower it, the rate can only fall"
        if not all(part.strip().isdecimal() for part in self.schedule_drops.split(",")):
            yield f'train.schedule_drops = "{self.schedule_drops}" must be epochs with commas between, such as "4,6"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Predictions and scores: what every task's evaluation is told."""

    split: Literal["train", "val", "test"] = opt("val", "split that `eval` captions and scores")
    batch_size: int = opt(32, "captions decoded together", low=1)
    strict: bool = opt(False, "a picture that cannot be read is an error, not a remark in its row")
    bootstrap: int = opt(1000, "draws of images behind the intervals of the scores; 0 = no intervals", low=0)

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        yield from ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What the configuration of every task has. Immutable; `dataclasses.replace` makes variants."""

    brought_by_checkpoint: ClassVar[tuple[str, ...]] = ("model.",)
    """Beginnings of the keys that a checkpoint given on the command line settles: the file's no longer apply."""

    task: str = opt("", "what is learnt; chooses the sections of the configuration")
    work_dir: str = opt(
        f"{RUNS}/default", "folder of the run: checkpoints, logs, predictions, metrics", flag="work_dir"
    )
    seed: int = opt(
        7, "seed of initial weights, shuffling, dropout and rendered sets", low=0, high=2**32 - 1, flag="seed"
    )
    train: LoopConfig = dataclasses.field(default_factory=LoopConfig)
    eval: ScoringConfig = dataclasses.field(default_factory=ScoringConfig)

    def check(self) -> Iterator[str]:
        """What contradicts what, each with its remedy: in each section, then (in subclasses) between sections."""
        if not self.work_dir:
            yield 'work_dir = "" must name a folder; "." is the current one'
        for field in dataclasses.fields(self):
            section = getattr(self, field.name)
            if dataclasses.is_dataclass(section):
                yield from section.check() if hasattr(section, "check") else ()

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON; `parse_config` of it gives an equal configuration."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
