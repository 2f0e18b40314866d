"""The networks that can answer: a look-up by `model.type`, and what each has to offer.

A network is one module with a `NETWORK`; a line in `NETWORKS`, and its name in `conf/answering.py`, makes it known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from conf.answering import AnsweringConfig
from data.features import Regions
from data.files import read_object, write_json
from data.questions import AnswerVocabulary, Question
from preprocessors.questions import Sees, shown
from tasks.answering.records import Records
from trainers.objective import Objective
from trainers.observer import Observer

NETWORKS = {
    "lxmert": "tasks.answering.lxmert:NETWORK",
    "visualbert": "tasks.answering.visualbert:NETWORK",
    "trar": "tasks.answering.trar:NETWORK",
}
"""`model.type` -> where the network is, as "module:name"; imported when it is asked for."""
SETTINGS_FILE = "answering.json"


class Reader(Protocol):
    """Makes a network's inputs."""

    def __call__(self, text: str, images: Sequence[Any]) -> dict[str, Any]:
        """An item of a question and the regions of its pictures. ValueError for what the network cannot read."""
        ...

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Items to the network's arguments."""
        ...


@dataclass(frozen=True)
class Settings:
    """What a checkpoint keeps beside network, words and answers: the file `answering.json`.

    Attributes:
        type: of the network.
        loss: that it was trained with, which says what its logits mean.
        images: pictures of a question.
        width: numbers of a region; `detector` made them, of a grid of `cells` x `cells` where it is one.
        max_words: words of a question that are read.
        normalise: how answers are looked up.
        sees: what it was shown.
    """

    type: str
    loss: str
    images: int
    width: int
    max_words: int
    normalise: str
    sees: str
    detector: str = ""
    cells: int | None = None

    @classmethod
    def of(cls, config: AnsweringConfig, known: "Known") -> "Settings":
        info = known.train.features.info
        return cls(
            type=config.model.type,
            loss=config.train.loss,
            images=known.images,
            width=info.width,
            max_words=config.model.max_words,
            normalise=known.answers.normalise,
            sees=config.data.sees,
            detector=info.detector,
            cells=info.grid[0] if info.grid is not None and info.grid[0] == info.grid[1] else None,
        )

    def save(self, folder: Path) -> None:
        write_json(folder / SETTINGS_FILE, dict(vars(self)))

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """ValueError for a folder that training did not write."""
        file = folder / SETTINGS_FILE
        if not file.is_file():
            raise ValueError(f"{folder} has no {SETTINGS_FILE}: it is no checkpoint of a run of this task")
        try:
            return cls(**read_object(file))
        except TypeError as error:
            raise ValueError(f"{file}: {error}: train anew, or use the program that wrote it") from None


@dataclass(frozen=True)
class Known:
    """What a network is built for: the training questions, the answers, and how many pictures a question has.

    `choices`: answers that a question brings along, 0 where they are the same for all; `answers` then number them.
    """

    train: Records
    answers: AnswerVocabulary
    images: int
    choices: int = 0


@dataclass(frozen=True)
class Answerer:
    """A network with its reader and answers.

    Attributes:
        logits: (the network, a collated batch) -> [B, answers].
        write: fills a folder with a loadable model of the weights given.
        observers: what looks on while it trains.
        at_epoch: (the network, an epoch from 0): called before each micro-batch that is learnt from, on every rank.
        adjust: sets what the configuration says of evaluation, once the model is opened to predict with.
        noted: like `logits`, with what predictions keep of each question besides answers, as JSON-able values.
        watched: the objective, or another around it that logs what the network has to tell.
        item: (a question, the regions of its pictures, what of both is shown) -> an item for the reader's `collate`,
            where a question is more than its text.
    """

    model: Any
    reader: Reader
    answers: AnswerVocabulary
    settings: Settings
    logits: Callable[[Any, Mapping[str, Any]], Tensor]
    write: Callable[[Path, Mapping[str, Tensor]], None]
    frozen: Sequence[nn.Module] = ()
    observers: Sequence[Observer] = ()
    at_epoch: Callable[[Any, int], None] | None = None
    adjust: Callable[[AnsweringConfig], None] | None = None
    noted: Callable[[Any, Mapping[str, Any]], tuple[Tensor, Sequence[Mapping[str, Any]]]] | None = None
    watched: Callable[[Objective], Objective] = lambda objective: objective
    item: Callable[[Question, Sequence[Regions], Sees], dict[str, Any]] | None = None

    def made(self, question: Question, images: Sequence[Regions], sees: Sees) -> dict[str, Any]:
        """The item of a question, shown as `sees` says. ValueError for what the network cannot read."""
        if self.item is not None:
            return self.item(question, images, sees)
        return self.reader(*shown(question.text, images, sees))


class Network(Protocol):
    """One system."""

    def build(self, config: AnsweringConfig, known: Known, last: Path | None) -> Answerer:
        """The model to train: new, from the configuration's checkpoint, or as `last` left it."""
        ...

    def open(self, folder: Path) -> Answerer:
        """The model that training wrote into a folder, in evaluation mode."""
        ...

    def open_foreign(self, config: AnsweringConfig, source: Path, known: Known) -> Answerer:
        """The model in weights of another program; words and answers are the configuration's."""
        ...


def network_of(name: str) -> Network:
    """The network of that `model.type`."""
    if name not in NETWORKS:
        raise ValueError(f"model.type is {name!r}: choose one of {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    network: Network = getattr(import_module(module), attribute)
    return network


def open_answerer(folder: Path) -> Answerer:
    """The model in a folder that training wrote, of whatever network."""
    return network_of(Settings.read(folder).type).open(folder)
