"""What the training loop asks of an objective, whatever it optimises."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Model = Any  # the network that the objective is for


@dataclass(frozen=True)
class ObjectiveOutput:
    """What an objective returns for one micro-batch.

    Attributes:
        loss_sum: scalar with gradient: the loss summed over the units that `count` counts.
        logs: what to log: name -> (detached sum, number of units that it sums over). The log shows the quotient, over
            all ranks and micro-batches of an update.
    """

    loss_sum: Tensor
    logs: dict[str, tuple[Tensor, float]]


class Objective:
    """Base of objectives: a loss for a micro-batch, summed over units that can be counted beforehand.

    Attributes:
        asks_model: whether `prepare` calls the model, whose parameters must then be whole on every rank.
        updates: how often the optimizer steps on the same micro-batches; `again` makes them ready for the next time.
        counts_prepared: whether `count` needs what `prepare` made. Then, as where `updates` is more than 1, all
            micro-batches of an update are prepared before the first is learnt from, and stay in memory together.
    """

    asks_model = False
    updates: int = 1
    counts_prepared: bool = False

    def set_mode(self, model: Model) -> None:
        """Put the model into the mode that it is trained in."""
        model.train()

    def update_begins(self, batches: Sequence[dict], add: Callable[[list[float]], list[float]]) -> None:
        """Told of all micro-batches of an update; `add` adds numbers up over the ranks, all of which call it."""

    def prepare(self, model: Model, batch: dict) -> dict:
        """What `__call__` gets in place of a batch: made one micro-batch ahead, outside the data-parallel wrapper."""
        return batch

    def again(self, model: Model, batch: dict) -> dict:
        """A prepared batch, learnt from before, for the model as it is now; where `updates` is more than 1."""
        return batch

    def close(self) -> None:
        """Free what the objective holds besides memory; called when training has ended, in whatever way."""

    def names(self, batch: dict) -> Sequence[str]:
        """Ids of a batch's records, for messages."""
        return ()

    def count(self, batch: dict, step: int) -> float:
        """Units that the loss of a batch is summed over: what the update divides by, over all ranks."""
        raise NotImplementedError

    def __call__(self, model: Model, batch: dict, step: int) -> ObjectiveOutput:
        """The summed loss of one micro-batch at update `step`."""
        raise NotImplementedError


class TrainingModule(torch.nn.Module):
    """Model and objective as one module: data-parallel wrappers synchronise gradients of what runs in *its* forward."""

    def __init__(self, model: Model, objective: Objective):
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: dict, step: int) -> ObjectiveOutput:
        return self.objective(self.model, batch, step)

    def run(self, task: Callable[[], T]) -> T:
        """`task()`: what else is done with the model, where wrappers can see it (`trainers.sharding`)."""
        return task()
