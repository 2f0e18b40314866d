"""Random numbers one at a time, so that those of an original can be given again."""

import random
from typing import Protocol


class Draws(Protocol):
    """What is asked of a generator; `random.Random` is one."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def randint(self, a: int, b: int) -> int:
        """A whole number from `a` to `b`, both included."""
        ...

    def randrange(self, start: int, /) -> int:
        """A whole number below `start`."""
        ...


def item_draws(seed: int, epoch: int, item: int, *, redraw: bool = True) -> Draws:
    """The generator of one item in one epoch, whatever the order in which items are made, and by how many workers.

    Without `redraw` every epoch draws the same, as the Paddle reproduction does.
    """
    return random.Random(f"{seed} {epoch if redraw else 0} {item}")
