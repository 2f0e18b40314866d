"""What a reward is: a function of candidate captions, registered under the name that configurations use.

Every reward is better the higher it is. Shapes: M groups (an image and a style each), K candidates a group.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

#: Ends the tokens of candidates that ended, and those of references, as a word of its own. Without it a caption that
#: breaks off ("a man on a") would score as high as one that is whole.
END_WORD = "<eos>"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A caption that the model wrote; `ended`: it wrote the end as well."""

    text: str
    ended: bool


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """Groups of candidates to score, tokenized once for all rewards.

    Attributes:
        candidates: [M][K].
        tokens: [M][K] tokens of each candidate joined by spaces, with `END_WORD` where it ended.
        references: [M] tokenized references of each group with `END_WORD`, at least one.
        soft_references: [M] captions of the image in other styles, likewise; empty lists where there are none.
        styles: [M] the asked styles.
        images: [M] ids of the images.
    """

    candidates: Sequence[Sequence[Candidate]]
    tokens: Sequence[Sequence[str]]
    references: Sequence[Sequence[str]]
    soft_references: Sequence[Sequence[str]]
    styles: Sequence[str]
    images: Sequence[str]


#: A batch -> [M][K] rewards. Called by several threads at a time.
Reward = Callable[[RewardBatch], Sequence[Sequence[float]]]
#: Builds a reward from a run's `rewards.resources.Resources`.
Factory = Callable[[Any], Reward]
F = TypeVar("F", bound=Factory)

FACTORIES: dict[str, Factory] = {}


def register(name: str) -> Callable[[F], F]:
    """Decorates what builds a reward from a run's `Resources`; `name` is its key in `scst.rewards`."""

    def add(factory: F) -> F:
        assert name not in FACTORIES, f"two rewards are called {name}"
        FACTORIES[name] = factory
        return factory

    return add


def factory_of(name: str, others: Collection[str] = ()) -> Factory:
    """The factory of a registered reward. ValueError with the nearest names, also of `others`, for an unknown one."""
    if name not in FACTORIES:
        known = sorted({*FACTORIES, *others})
        close = get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(
            f"scst.rewards: no reward is called {name}; {hint}there are {', '.join(known)}, file:PATH.py:FUNCTION and "
            "http://HOST:PORT"
        )
    return FACTORIES[name]
