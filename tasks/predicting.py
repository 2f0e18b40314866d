"""What every task's predictions share: a model that is asked while it trains, and work that ranks divide."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from torch import nn

T = TypeVar("T")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards every module is in the mode it was in, frozen parts among them."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def shard(items: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The part of `items` that process `rank` of `world` predicts: contiguous, so that an image mostly stays whole.

    The parts' sizes differ by at most one; `merge` puts results of all ranks in order again.
    """
    return items[rank * len(items) // world : (rank + 1) * len(items) // world]


def merge(parts: Sequence[Sequence[T]]) -> list[T]:
    """The results of all ranks, given in the order of ranks, as one list in the order of the items."""
    return list(chain.from_iterable(parts))
