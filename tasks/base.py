"""What a task is: the only place that knows which data, network, objective, scores and cards go together.

The commands (`tasks/training.py`, `tasks/evaluating.py`, `tasks/reporting.py`) call these methods and know no task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from evaluation.judgement import Judgement
from report.card import Card
from trainers.batches import Items
from trainers.distributed import World
from trainers.objective import Objective
from trainers.observer import Observer
from trainers.sharding import ShardUnit

#: Annotations of a split, of a type that only their task looks into; `len` counts what is learnt from.
Records = Any
Config = Any


@dataclass(frozen=True)
class Built:
    """A model with what belongs to it.

    Attributes:
        model: the network.
        preprocessor: makes its inputs; of a type that only the task looks into.
        write: fills a folder with a loadable model of the weights given.
        collate: items -> a micro-batch.
        frozen: parts that are not trained and keep the mode of evaluation.
        shard_units: parts that gather their parameters on their own where these are divided over ranks.
        own_rates: parts with a peak learning rate of their own.
    """

    model: Any
    preprocessor: Any
    write: Callable[[Path, Mapping[str, Tensor]], None]
    collate: Callable[[list[Any]], Mapping[str, Any]]
    frozen: Sequence[nn.Module] = ()
    shard_units: Sequence[ShardUnit] = ()
    own_rates: Sequence[tuple[nn.Module, float]] = ()


@dataclass(frozen=True)
class DrawnSet:
    """A data set that is drawn on the spot: by `draw`, into a folder; `depends_on`: the settings that it follows."""

    draw: Callable[[Path], None]
    depends_on: frozenset[str]


@runtime_checkable
class KeepsPredictions(Protocol):
    """A task whose predictions can be written down: `eval` then does so before it scores them, and takes them up again
    when it was broken off, or when only the scoring has changed."""

    def predicted_by(self, config: Config, control: str | None) -> Mapping[str, Any]:
        """The settings that predictions follow, as JSON-able values."""
        ...

    def pack(self, predictions: Any) -> Any:
        """Predictions as JSON-able values."""
        ...

    def unpack(self, content: Any) -> Any:
        """The predictions that `pack` was given. ValueError, KeyError or TypeError for anything else."""
        ...


class Task(Protocol):
    """One task; stateless. `config` is its own configuration, registered in `config.CONFIGS`."""

    trainer: str
    """The name of its trainer in ModelScope's registry."""
    controls: Sequence[str]
    """What scores can be held against: `eval --control NAME`."""

    def splits(self, config: Config) -> list[str]:
        """The splits that the configuration has."""
        ...

    def read(self, config: Config, split: str) -> Records:
        """The annotations of a split; a set that is drawn is drawn first. ValueError for one that is not configured."""
        ...

    def check(self, config: Config, records: Records, world: World) -> Records:
        """The records without faulty ones. ValueError where there are any and the configuration does not skip them."""
        ...

    def examine(self, config: Config, records: Records) -> Any:
        """The doctor's report on a split: has `faults`, `to_text()` and `to_json()`."""
        ...

    def identity(self, records: Records) -> dict[str, str]:
        """Digests, by name, of what is trained on: a run is resumed with the same."""
        ...

    def build(self, config: Config, records: Mapping[str, Records], last: Path | None) -> Built:
        """The model to train: new, from the configuration's checkpoint, or as the checkpoint `last` left it.

        `records`: of the splits "train" and, where there is one, "val". Whatever can be wrong with model and data
        together is found here, before the first update.
        """
        ...

    def items(self, config: Config, built: Built, records: Records, world: World) -> Items:
        """What is learnt from."""
        ...

    def objective(
        self, config: Config, built: Built, records: Records, world: World
    ) -> tuple[Objective, Sequence[Observer]]:
        """What is minimised, and what watches it."""
        ...

    def validate(
        self, config: Config, built: Built, records: Mapping[str, Records], world: World
    ) -> Callable[[], dict[str, Any]]:
        """Scores the model as it is on the split "val", all ranks together; the scores are those of rank 0."""
        ...

    def open(self, config: Config, checkpoint: Path, records: Records | None) -> Built:
        """The model in a checkpoint, to predict with; `records` are what it is asked about."""
        ...

    def predict(self, config: Config, built: Built | None, records: Records, control: str | None) -> Any:
        """Predictions for `records`, or what `control` puts in their place. `built` is None for a control that needs no
        model."""
        ...

    def needs_model(self, control: str | None) -> bool:
        """Whether predictions under this control come from the model."""
        ...

    def judge(self, config: Config, records: Records, predictions: Any, title: str) -> Judgement:
        """Scores of predictions, logged under `title`."""
        ...

    def drawn_set(self, config: Config) -> "DrawnSet | None":
        """The data set that the configuration draws; None where its data lie in files."""
        ...

    def card(self, row: Mapping[str, Any]) -> Card:
        """What pages show of a prediction, a row of `predictions.json`."""
        ...
