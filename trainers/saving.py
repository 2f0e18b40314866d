"""What a checkpoint of a run holds, written and put back: model, optimizer, averages, random numbers, progress."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers.averaging import WeightAverage
from trainers.checkpointing import CheckpointFolder, load_state, rng_state, set_rng_state
from trainers.distributed import World
from trainers.run_state import RunState
from trainers.sharding import sharded_state, whole_state


class Saving:
    """Saves what it was made of, and loads it.

    Args:
        model, optimizer, scaler, average: of the run, this rank's part of them where they are divided.
        world: this process among those that train together.
        checkpoints: where to.
        write_model: fills a folder with a loadable model of the weights given.
        data: digests of what is trained on, by name.
        allow_changed_data: load a checkpoint that was made on other data.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None,
        world: World,
        checkpoints: CheckpointFolder,
        write_model: Callable[[Path, Mapping[str, Tensor]], None],
        *,
        data: Mapping[str, str],
        allow_changed_data: bool,
    ):
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self.average = average
        self.world = world
        self.checkpoints = checkpoints
        self.write_model = write_model
        self.data = data
        self.allow_changed_data = allow_changed_data

    def save(self, state: RunState, observed: Sequence[Any]) -> None:
        """Save the model with its average, `state`, and what each observer keeps; every rank takes part, rank 0 writes.

        Raises:
            ValueError: a weight is not a finite number; nothing is saved.
        """
        kept = state.to_dict() | {
            "data": self.data,
            "observers": observed,
            "optimizer": whole_state(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "rng": self.world.gather(rng_state()),
        }
        if self.average is not None:
            kept["average"] = whole_state(self.average.state())
        with self.averaged():
            weights = whole_state(self.model.state_dict())
            if self.world.is_main:
                _check_finite(weights, state.step)
                self.checkpoints.save(state.step, lambda folder: self.write_model(folder, weights), kept)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model with the weights that are validated and saved."""
        return self.average.in_place() if self.average is not None else contextlib.nullcontext()

    def load(self, checkpoint: Path) -> tuple[RunState, Sequence[Any]]:
        """Put back everything but the model; where the run was, and what each observer kept.

        Raises:
            ValueError: saved by another number of processes, or on other data.
        """
        kept = load_state(checkpoint)
        if len(kept["rng"]) != self.world.size:
            raise ValueError(
                f"{checkpoint}: was saved by {len(kept['rng'])} processes and is resumed by {self.world.size}: "
                "resume with the same number"
            )
        self._check_data(kept.get("data", {}))
        self.optimizer.load_state_dict(sharded_state(kept["optimizer"], self.optimizer))
        self.scaler.load_state_dict(kept["scaler"])
        if self.average is not None and "average" in kept:
            self.average.resume(kept["average"])
        set_rng_state(kept["rng"][self.world.rank])
        return RunState.of(kept), kept.get("observers", [])

    def _check_data(self, former: Mapping[str, str]) -> None:
        changed = [name for name in former.keys() & self.data.keys() if former[name] != self.data[name]]
        if changed and not self.allow_changed_data:
            raise ValueError(
                f"--resume: the {' and the '.join(sorted(changed))} are not those that the run began with: put them "
                "back, start a new run with another --work_dir, or go on all the same with --allow-changed-data"
            )


def _check_finite(weights: Mapping[str, Tensor], step: int) -> None:
    broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(
            f"step {step}: {broken[0]} and {len(broken) - 1} more are not finite: the model is not saved, and former "
            "checkpoints are as they were; lower train.lr, or go on from them with --resume"
        )
