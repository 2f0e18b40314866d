"""The command `train`, of any task."""

import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from modelscope.trainers.builder import build_trainer

from conf.typed import keys_of, read_json_object
from config import CONFIGS, TaskConfig
from data.files import flatten, write_json
from data.run_folder import RunFolder
from tasks import task_of
from tasks.evaluating import find_checkpoint
from trainers import distributed
from trainers.checkpointing import CheckpointFolder
from trainers.distributed import World
from trainers.loop import Loop, Rate
from trainers.memory import keep_freed_memory
from trainers.optimizer import optimizer_of
from trainers.schedules import learning_rate_of, phased_rate, rate_after
from trainers.trackers import open_trackers

LOGGER = logging.getLogger("stylecap")

#: Settings that may differ when a run is resumed: they do not change what an update does, or they lengthen the run.
FREE_ON_RESUME = {
    "work_dir",
    "data.num_workers",
    "data.cache_images",
    "data.feature_dir",
    "train.log_every",
    "train.sharding",
    "train.keep_checkpoints",
    "train.resume_from",
    "train.tensorboard",
    "train.report_to",
    "train.project",
    "train.max_steps",
    "train.max_epochs",
    "train.early_stop_patience",
    "train.checkpoint_every",
    "train.gradient_checkpointing",
    "train.max_skipped_updates",
    "train.stall_warning_s",
    "train.collective_timeout_s",
}
#: Settings of evaluation that rewards and validation follow as well.
OF_TRAINING = {"eval.tokenizer"}
#: Of the loop itself, from the section `train`.
_LOOP = (
    *("max_epochs", "max_steps", "batch_size", "gradient_accumulation", "clip_norm", "ema", "dtype", "sharding"),
    *("checkpoint_every", "keep_checkpoints", "best_metric", "early_stop_patience", "max_skipped_updates"),
    *("stall_warning_s", "log_every"),
)


def run_training(
    config: Any,
    *,
    resume: bool,
    allow_changed_data: bool = False,
    rank: int = 0,
    ranks: int = 1,
    local_rank: int = 0,
) -> dict[str, Any]:
    """Train as `config` says, in `config.work_dir`.

    Args:
        resume: continue the run in that folder; a folder without a checkpoint starts from the beginning.
        allow_changed_data: continue it although the data are others now.
        rank, ranks, local_rank: this process, as `torchrun` numbers it.

    Returns:
        Last step and epoch, the best validation score and the checkpoint that has it.

    Raises:
        ValueError: a fault of the configuration, the data or the checkpoint, with its remedy; a folder in use.
        KeyboardInterrupt: interrupted, after a checkpoint was saved.
    """
    world = distributed.start(rank, ranks, local_rank, config.train.collective_timeout_s)
    if world.device.type == "cpu":
        keep_freed_memory()
    lock: TextIO | None = None
    try:
        lock = world.from_main(RunFolder(config.work_dir).claim, share=False)
        with torch.random.fork_rng(devices=[]):
            # Not kept in a variable: the trainer's data-parallel module must be gone before the process group is.
            return prepare(config, world, resume, allow_changed_data).train(resume=resume)
    finally:
        if lock is not None:
            lock.close()
        distributed.stop()


def prepare(config: Any, world: World, resume: bool, allow_changed_data: bool = False) -> Any:
    """The trainer of a run, with everything read and built."""
    task, run = task_of(config), RunFolder(config.work_dir)
    last = world.from_main(lambda: _last(run, config, resume))
    records: dict[str, Any] = {}
    for split in ("train", *({"val"} & set(task.splits(config)))):
        read = world.in_turn(partial(task.read, config, split))
        records[split] = task.check(config, read, world)
    torch.manual_seed(config.seed)
    built = task.build(config, records, last)
    objective, observers = task.objective(config, built, records["train"], world)
    train, items = config.train, task.items(config, built, records["train"], world)
    world.from_main(lambda: _write_configuration(run, config))
    loop = Loop(
        built.model,
        items,
        objective,
        collate=built.collate,
        optimizer=optimizer_of(
            getattr(train, "optimizer", "adamw"),
            lr=train.lr,
            betas=train.adam_betas,
            eps=train.adam_eps,
            weight_decay=train.weight_decay,
            own_rates=[(part, rate / train.lr) for part, rate in built.own_rates],
        ),
        rate=_rate(train, len(items) / (train.batch_size * train.gradient_accumulation * world.size)),
        write_model=built.write,
        validate=task.validate(config, built, records, world) if "val" in records else None,
        folder=run,
        world=world,
        observers=observers,
        frozen=built.frozen,
        shard_units=built.shard_units,
        resume_from=last,
        data=task.identity(records["train"]),
        allow_changed_data=allow_changed_data,
        num_workers=config.data.num_workers,
        tensorboard=(train.tensorboard or "tensorboard" in train.report_to) and world.is_main,
        seed=config.seed,
        **{name: getattr(train, name) for name in _LOOP},
    )
    if world.is_main:
        others = [name for name in train.report_to if name != "tensorboard"]
        loop.history.trackers += open_trackers(
            others, project=train.project, folder=run, settings=config.to_dict(), resumed=last is not None
        )
    return build_trainer(task.trainer, {"loop": loop, "cfg_file": str(run.modelscope)})


def _rate(train: Any, epoch_updates: float) -> Rate:
    """The learning rate of every update; each of the phases, where there are any, has a schedule of its own."""
    phases: Mapping[str, Mapping[str, Any]] = getattr(train, "phases", {})
    if not phases:
        return _schedule(train, train.max_epochs, {}, epoch_updates)
    return phased_rate(
        [
            (phase["epochs"] * int(epoch_updates), _schedule(train, phase["epochs"], phase, epoch_updates))
            for phase in phases.values()
        ]
    )


def _schedule(train: Any, epochs: int, phase: Mapping[str, Any], epoch_updates: float) -> Rate:
    given = {name: phase.get(name, getattr(train, name)) for name in ("lr", "lr_end", "warmup_proportion")}
    of_share = partial(
        learning_rate_of,
        phase.get("schedule", train.schedule),
        lr=given["lr"],
        lr_end=given["lr_end"],
        epochs=epochs,
        every=train.schedule_every,
        factor=train.schedule_factor,
        drops=[int(part) for part in train.schedule_drops.split(",")],
        warmup_epochs=train.warmup_epochs,
        epoch_updates=epoch_updates,
    )
    if train.warmup_steps:
        return rate_after(train.warmup_steps, lambda share: of_share(warmup_proportion=share))
    return of_share(warmup_proportion=given["warmup_proportion"])


# --- the run's folder ------------------------------------------------------------------------------------------------


def _last(run: RunFolder, config: TaskConfig, resume: bool) -> Path | None:
    """The checkpoint to resume from. ValueError for a folder that holds another run, or one that is not asked for."""
    last = CheckpointFolder(run.checkpoints, 1).find("last")
    if last is not None and not resume:
        raise ValueError(
            f"{run.path} holds a run with checkpoints: continue it with --resume, train elsewhere with --work_dir DIR, "
            "or remove the folder"
        )
    if last is not None and run.conf.exists():
        _check_same(read_json_object(str(run.conf)), config.to_dict(), run.conf)
    other = getattr(config.train, "resume_from", None)
    return find_checkpoint(config.work_dir, other) if last is None and resume and other else last


def _write_configuration(run: RunFolder, config: TaskConfig) -> None:
    write_json(run.conf, config.to_dict())
    # ModelScope's trainer insists on a configuration file; ours is the one above.
    modelscope = {
        "framework": "pytorch",
        "task": "image-captioning",
        "model": {"type": "stylecap-ofa"},
        "train": {"work_dir": str(run.path), "max_epochs": config.train.max_epochs, "hooks": []},
        "evaluation": {},
    }
    write_json(run.modelscope, modelscope)


def _check_same(former: dict[str, Any], now: dict[str, Any], file: Path) -> None:
    """Refuse to resume a run under settings that would make it another run."""
    flat_former, flat_now = _comparable(former), _comparable(now)
    for key in sorted(flat_former.keys() | flat_now.keys()):
        free = key in FREE_ON_RESUME or (key.startswith("eval.") and key not in OF_TRAINING)
        # A setting that the run's program did not have yet is at its default.
        known = key in flat_former or flat_now[key] != _default(now["task"], key)
        if not free and known and flat_former.get(key) != flat_now.get(key):
            raise ValueError(
                f"--resume: {key} was {flat_former.get(key)!r} when the run began ({file}) and is now "
                f"{flat_now.get(key)!r}: set it back, or start a new run with another --work_dir"
            )


def _default(task: str, key: str) -> Any:
    """A setting's default; None for one that the task does not have."""
    declared = keys_of(CONFIGS[task]).get(key)
    default = declared.default if declared else None
    return list(default) if isinstance(default, tuple) else default


def _comparable(conf: dict[str, Any]) -> dict[str, Any]:
    """A configuration flat, in a form in which what makes the same run is equal: paths however they are spelled, and
    the batch of an update however it is divided."""
    flat = {key: _same_path(value) for key, value in flatten(conf).items()}
    batch, parts = flat.get("train.batch_size"), flat.get("train.gradient_accumulation")
    if isinstance(batch, int) and isinstance(parts, int) and parts > 1:
        flat |= {"train.batch_size": batch * parts, "train.gradient_accumulation": 1}
    return flat


def _same_path(value: Any) -> Any:
    return os.path.realpath(value) if isinstance(value, str) and os.path.exists(value) else value
