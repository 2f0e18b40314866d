"""Sections of the task vision-language-pretraining. Imports the standard library only."""
# ruff: noqa: RUF009  opt() declares a dataclass field

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from conf.answering import AnswerModelConfig
from conf.common import LoopConfig, Schedule, ScoringConfig, TaskConfig
from conf.typed import opt

PRETRAINING = "vision-language-pretraining"
LOSSES = ("words", "matched", "objects", "attributes", "features", "answers")
FOR_VISUALBERT = ("nlvr2", "vcr-pairs")
"""Formats that one network alone is pre-trained with."""
MASKING = ("both", "one")
PHASE = ("epochs", "losses", "masking", "lr", "lr_end", "schedule", "warmup_proportion")
"""What a phase may say; all but its epochs is that of the section `train` where it does not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainModelConfig(AnswerModelConfig):
    """The network, what it starts from, and its vocabulary."""

    type: Literal["lxmert", "visualbert"] = opt("lxmert", "the network; tasks/pretraining/models.py lists them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceDataConfig:
    """Captions and questions, and features of their pictures. Several files have commas between."""

    format: Literal["demo", "plain", "lxmert-pretraining", "coco-captions", "imdb", "nlvr2", "vcr-pairs"] = opt(
        "plain",
        "form of the sentence files; a row of plain without an answer is a caption; demo = drawn under work_dir; "
        "visualbert: nlvr2, sentences about pairs, and vcr-pairs, VCR's questions with one choice each",
    )
    train: str | None = opt(None, "sentences to train on")
    val: str | None = opt(None, "sentences to choose the best checkpoint by")
    test: str | None = opt(None, "sentences for the final evaluation")
    features: str | None = opt(None, "feature stores, made by the command features")
    images: str | None = opt(None, "folders or zip files of the pictures, for pages")
    answers: str | None = opt(None, "file of the answers that are predicted; null = those of training")
    min_answer_count: int = opt(1, "training answers that are rarer are not predicted", low=1)
    max_answers: int | None = opt(None, "at most so many answers, the most frequent; null = all", low=1)
    skip_bad: bool = opt(False, "leave out faulty sentences (missing features, ...) instead of refusing the data set")
    num_workers: int = opt(
        0, "processes that prepare sentences; 0 = in the training process", low=0, flag="num_workers"
    )
    demo_images: int = opt(3000, "pictures of the drawn set, all splits together", low=14)
    demo_questions: int = opt(4, "questions about each of them", low=1)
    demo_captions: int = opt(2, "captions of each of them, without style", low=1, high=5)

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.format == "demo":
            for name in ("train", "val", "test", "features", "images"):
                if getattr(self, name) is not None:
                    yield f'data.{name} contradicts data.format = "demo", which draws its own; remove one'
            return
        if not (self.train or self.val or self.test):
            yield f'data.format = "{self.format}" needs sentences: data.train, data.val, data.test'
        if self.features is None:
            yield "data.features must name a feature store: make one with the command features"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainTrainConfig(LoopConfig):
    """Losses, masking and optimizer, beside what every training is told."""

    losses: str = opt(
        ",".join(LOSSES), "what is predicted, with commas between; those that the data have no labels for are left out"
    )
    masking: Literal["both", "one"] = opt(
        "both", "mask words and boxes of an example, or (CATT) words or boxes by a coin, masked boxes then invisible"
    )
    word_mask_rate: float = opt(0.15, "share of words that are masked", low=0, high=1)
    box_mask_rate: float = opt(0.15, "share of boxes that are masked", low=0, high=1)
    box_losses: Literal["masked", "published"] = opt(
        "masked",
        "boxes that teach objects and attributes: the masked ones, or as LXMERT was published all of them, weighed by "
        "the detector's confidence",
    )
    visual_mask: Literal["passed", "published"] = opt(
        "passed", "whether masked boxes that are to be invisible are; published = never, for LXMERT passed no mask on"
    )
    phases: dict[str, Any] = opt(
        {},
        'name -> {"epochs": 10, ...} of phases one after the other, each with a schedule of its own, such as without '
        f"answers and then with them; a phase may have {', '.join(PHASE)}; train.max_epochs is their sum",
    )
    optimizer: Literal["adamw", "bertadam", "bertadam-each"] = opt(
        "adamw", "bertadam is the originals': no bias correction; bertadam-each as VisualBERT has it"
    )
    caption_pairs: Literal["every_epoch", "once"] = opt(
        "every_epoch", "visualbert: when second captions are drawn; once = the same in all epochs, as its reproduction"
    )
    train_pooler: bool = opt(True, "visualbert: false leaves the pooler as it is, as the original's training does")
    dropout: float = opt(0.1, "dropout of embeddings, attention and layers", low=0, below=1)
    best_metric: Literal["likelihood", "words", "matched", "answers"] = opt(
        "likelihood", "validation score that names the best checkpoint: exp(-loss), or the share that is right"
    )

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.gradient_checkpointing:
            yield "train.gradient_checkpointing is not there for this task: set it to false"
        yield from _check_losses("train.losses", self.losses)
        for name, phase in self.phases.items():
            yield from _check_phase(f"train.phases.{name}", phase)
        said = [phase.get("epochs") if isinstance(phase, dict) else None for phase in self.phases.values()]
        epochs = [one for one in said if isinstance(one, int)]
        if epochs and len(epochs) == len(said) and sum(epochs) != self.max_epochs:
            yield f"train.max_epochs = {self.max_epochs}, but train.phases have {sum(epochs)} epochs: set it to that"

    def phase_at(self, epoch: int) -> dict[str, Any]:
        """`losses`, a list of names, and `masking` in an epoch, from 0."""
        phase: dict[str, Any] = {}
        for phase in self.phases.values():
            if epoch < phase["epochs"]:
                break
            epoch -= phase["epochs"]
        return {
            "losses": names_of(phase.get("losses", self.losses)),
            "masking": phase.get("masking", self.masking),
        }

    def all_losses(self) -> list[str]:
        """The losses of all phases."""
        texts = [phase.get("losses", self.losses) for phase in self.phases.values()] or [self.losses]
        used = {name for text in texts for name in names_of(text)}
        return [name for name in LOSSES if name in used]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TaskConfig):
    """Vision-and-language pre-training."""

    brought_by_checkpoint: ClassVar[tuple[str, ...]] = ("model.config", "model.vocabulary", "model.start")

    task: Literal["vision-language-pretraining"] = opt(PRETRAINING, "pre-training of networks that answer questions")
    model: PretrainModelConfig = dataclasses.field(default_factory=PretrainModelConfig)
    data: SentenceDataConfig = dataclasses.field(default_factory=SentenceDataConfig)
    train: PretrainTrainConfig = dataclasses.field(default_factory=PretrainTrainConfig)
    eval: ScoringConfig = dataclasses.field(default_factory=ScoringConfig)

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.data.format in FOR_VISUALBERT and self.model.type != "visualbert":
            yield f'data.format = "{self.data.format}" needs model.type = "visualbert" in pre-training'

    def splits(self) -> list[str]:
        """The splits that have sentences."""
        return [name for name in ("train", "val", "test") if self.data.format == "demo" or getattr(self.data, name)]

    def drawn_dir(self) -> str:
        """Where the set of data.format = "demo" lies."""
        return os.path.join(self.work_dir, "demo_data")


def names_of(text: str) -> list[str]:
    """Names with commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_losses(key: str, text: Any) -> Iterator[str]:
    names = names_of(text) if isinstance(text, str) else []
    wrong = [name for name in names if name not in LOSSES]
    if wrong or not names:
        yield f"{key} = {text!r} must be some of {','.join(LOSSES)}, with commas between"


def _check_phase(key: str, phase: Any) -> Iterator[str]:
    """What is wrong with one phase."""
    if not isinstance(phase, dict):
        yield f'{key} must be an object such as {{"epochs": 10, "losses": "words,matched"}}'
        return
    unknown = [name for name in phase if name not in PHASE]
    if unknown:
        yield f"{key}.{unknown[0]} is not known: a phase has {', '.join(PHASE)}"
    epochs = phase.get("epochs")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        yield f"{key}.epochs = {epochs!r} must be a whole number from 1"
    if "losses" in phase:
        yield from _check_losses(f"{key}.losses", phase["losses"])
    choices = {"masking": MASKING, "schedule": Schedule.__args__}  # type: ignore[attr-defined]
    for name, known in choices.items():
        if name in phase and phase[name] not in known:
            yield f"{key}.{name} = {phase[name]!r} must be one of {', '.join(known)}"
    for name in ("lr", "lr_end", "warmup_proportion"):
        value = phase.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            yield f"{key}.{name} = {value!r} must be a number from 0 to under 1"
