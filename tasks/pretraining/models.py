"""The networks that can be pre-trained: a look-up by `model.type`, and what each has to offer.

A network is one module with a `NETWORK`; a line in `NETWORKS`, and its name in `conf/pretraining.py`, makes it known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from conf.pretraining import PretrainingConfig
from tasks.answering.models import Known
from tasks.answering.records import Records
from trainers.objective import Objective
from trainers.observer import Observer
from trainers.pretraining_losses import Part

NETWORKS = {
    "lxmert": "tasks.pretraining.lxmert:NETWORK",
    "visualbert": "tasks.pretraining.visualbert:NETWORK",
}
"""`model.type` -> where the network is, as "module:name"; imported when it is asked for."""
EVALUATION = 0
"""The epoch of which examples are evaluated: always masked alike."""


@dataclass(frozen=True)
class Phase:
    """What is learnt in an epoch: the losses that count, and how examples are masked."""

    losses: tuple[str, ...]
    masking: str


class Examples(Protocol):
    """Masked examples of a split; its workers are copies of it."""

    def __len__(self) -> int: ...

    def __call__(self, row: int, epoch: int, phase: Phase) -> dict[str, Any]:
        """An item for `collate`, the same for the same arguments. ValueError for one that cannot be made."""
        ...


@dataclass(frozen=True)
class Guess:
    """What a network says of one example, for pages and intervals.

    Attributes:
        row: of the records.
        shown: the sentence as the model read it.
        words: (piece that was there, piece that is the most probable) of each masked word.
        matched: (whether sentence and picture belong together, probability that they do); None where it is not asked.
        answer: (the answer, the most probable one); None where there is none.
    """

    row: int
    shown: str
    words: tuple[tuple[str, str], ...]
    matched: tuple[bool, float] | None = None
    answer: tuple[str, str] | None = None


@dataclass(frozen=True)
class Pretrainer:
    """A network with what makes its examples and its losses.

    Attributes:
        losses: those of all phases that the data have labels for.
        examples: (records, seed, whether pictures are hidden) -> masked examples.
        collate: items to a batch: the network's arguments and labels, and `counts`, loss -> the number that it is a
            mean over, `rows` of the records, `losses` that count.
        parts: (the network, a batch) -> every one of `losses`, one that does not count in this phase included: all
            parameters then have gradients in every phase. A loss without a label in the batch is 0.
        guess: (the network, a batch) -> a guess an example.
        write: fills a folder with a loadable model of the weights given, which a fine-tuning starts from.
        observers: what looks on while it trains.
        watched: the objective, or another around it that logs what the network has to tell.
    """

    model: Any
    losses: tuple[str, ...]
    examples: Callable[[Records, int, bool], Examples]
    collate: Callable[[list[Any]], dict[str, Any]]
    parts: Callable[[Any, Mapping[str, Any]], Mapping[str, Part]]
    guess: Callable[[Any, Mapping[str, Any]], list[Guess]]
    write: Callable[[Path, Mapping[str, Tensor]], None]
    observers: Sequence[Observer] = ()
    watched: Callable[[Objective], Objective] = lambda objective: objective


class Network(Protocol):
    """One system."""

    def build(self, config: PretrainingConfig, known: Known, last: Path | None) -> Pretrainer:
        """The model to train: new, from the configuration's checkpoint, or as `last` left it."""
        ...

    def open(self, config: PretrainingConfig, source: Path, known: Known) -> Pretrainer:
        """The model in a folder that training wrote, or in weights of another program, in evaluation mode."""
        ...


def network_of(name: str) -> Network:
    """The network of that `model.type`."""
    if name not in NETWORKS:
        raise ValueError(f"model.type is {name!r}: choose one of {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    network: Network = getattr(import_module(module), attribute)
    return network
