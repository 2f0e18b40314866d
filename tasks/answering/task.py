"""Visual question answering as a task: what its data, networks, objective, scores and cards are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from conf.answering import CHOOSING, DRAWN, AnsweringConfig
from data.questions import AnswerVocabulary, Question
from evaluation.answer_judging import Prediction, answer_score, judge_answers
from evaluation.judgement import Judgement
from metrics.answers.tables import majority, majority_predictions
from preprocessors.questions import Sees
from report.card import Card
from tasks.answering import trainer as registered_trainer
from tasks.answering.asking import ask
from tasks.answering.choosing import scores_of
from tasks.answering.examined import Examined
from tasks.answering.items import QuestionItems, collator
from tasks.answering.models import SETTINGS_FILE, Answerer, Known, Settings, network_of, open_answerer
from tasks.answering.objective import Answering
from tasks.answering.records import Records, checked, draw, examined, identity, read_records
from tasks.answering.starting import CHOICE_ANSWERS, PAIR_ANSWERS
from tasks.base import Built, DrawnSet
from tasks.predicting import merge, shard
from trainers.distributed import World
from trainers.objective import Objective
from trainers.observer import Observer

CONTROLS = {"question-only": "question", "image-only": "image", "majority": None}
"""Control -> what the model is shown, None where there is no model."""
_LOWER = ("plain", "shapes", "nlvr1", "nlvr2", "lxmert-nlvr2", "visual-genome", *DRAWN)
_OFFICIAL = {"gqa": "gqa", "nlvr2": "nlvr2", "lxmert-nlvr2": "nlvr2", "demo-pairs": "nlvr2", "clevr": "clevr"}


class AnsweringTask:
    """The task visual-question-answering; see `tasks.base.Task` for what each method is for."""

    trainer = registered_trainer.NAME
    controls: Sequence[str] = tuple(CONTROLS)

    def splits(self, config: AnsweringConfig) -> list[str]:
        return config.splits()

    def read(self, config: AnsweringConfig, split: str) -> Records:
        return read_records(config, split)

    def check(self, config: AnsweringConfig, records: Records, world: World) -> Records:
        return checked(config, records, world)

    def examine(self, config: AnsweringConfig, records: Records) -> Examined:
        return examined(config, records)

    def identity(self, records: Records) -> dict[str, str]:
        return identity(records)

    def drawn_set(self, config: AnsweringConfig) -> DrawnSet | None:
        if config.data.format not in DRAWN:
            return None
        keys = ("seed", "data.format", "data.demo_images", "data.demo_questions")
        return DrawnSet(draw(config), frozenset(keys))

    # --- training ----------------------------------------------------------------------------------------------------

    def build(self, config: AnsweringConfig, records: Mapping[str, Records], last: Path | None) -> Built:
        known = known_of(config, records["train"])
        for one in records.values():
            images_of(one)
        return built(network_of(config.model.type).build(config, known, last))

    def items(self, config: AnsweringConfig, built: Built, records: Records, world: World) -> QuestionItems:
        data = config.data
        return QuestionItems(records, built.preprocessor, data.sees, config.seed, together=data.together)

    def objective(
        self, config: AnsweringConfig, built: Built, records: Records, world: World
    ) -> tuple[Objective, Sequence[Observer]]:
        answerer: Answerer = built.preprocessor
        train = config.train
        parts = train.gradient_accumulation * world.size
        found = Answering(
            train.loss,
            answerer.logits,
            parts=parts if train.loss_reduction == "sum" else 0,
            at_epoch=answerer.at_epoch,
            epoch_updates=len(records) // (train.batch_size * parts),
        )
        return answerer.watched(found), answerer.observers

    def validate(
        self, config: AnsweringConfig, built: Built, records: Mapping[str, Records], world: World
    ) -> Callable[[], dict[str, Any]]:
        val = records["val"]
        rows = shard(range(len(val)), world.rank, world.size)
        mine = Records(val.questions.take(rows), val.features) if rows else None

        def score() -> dict[str, Any]:
            found = self._ask(config, built.preprocessor, mine, config.data.sees, world.is_main) if mine else []
            predictions = merge(world.gather(found))
            if not world.is_main:
                return {}
            scores = [
                answer_score(question, one.answer, rule=config.eval.rule, exact=_exact(config))
                for question, one in zip(val, predictions, strict=True)
            ]
            return {"accuracy": sum(scores) / len(scores)}

        return score

    # --- evaluation --------------------------------------------------------------------------------------------------

    def open(self, config: AnsweringConfig, checkpoint: Path, records: Records | None) -> Built:
        return built(place(open_checkpoint(config, checkpoint, records)))

    def needs_model(self, control: str | None) -> bool:
        return control != "majority"

    def predict(
        self, config: AnsweringConfig, built: Built | None, records: Records, control: str | None
    ) -> list[Prediction]:
        if built is None:
            return majority_of(read_records(config, "train"), records)
        answerer: Answerer = built.preprocessor
        sees: Any = CONTROLS[control] if control is not None else answerer.settings.sees
        return self._ask(config, answerer, records, sees, True)

    def judge(
        self, config: AnsweringConfig, records: Records, predictions: Sequence[Prediction], title: str
    ) -> Judgement:
        known = known_of(config, read_records(config, "train")).answers if "train" in config.splits() else None
        judgement = judge_answers(
            list(records),
            predictions,
            rule=config.eval.rule,
            exact=_exact(config),
            official=_OFFICIAL.get(config.data.format),
            bootstrap=config.eval.bootstrap,
            title=title,
            file_of=records.file_of,
            in_vocabulary=None if known is None else known.__contains__,
        )
        if config.data.format in CHOOSING:
            judgement.metrics.update(scores_of(config, records, predictions))
        return judgement

    def card(self, row: Mapping[str, Any]) -> Card:
        first, *others = [f"{answer} ({100 * share:.0f}%)" for answer, share in row["top"]]
        return Card(
            image=row.get("image"),
            heading=row["question"],
            text=first,
            references=row.get("references", ()),
            note=", ".join(others),
            score=100 * row["scores"]["accuracy"],
        )

    def _ask(
        self, config: AnsweringConfig, answerer: Answerer, records: Records, sees: Sees, progress: bool
    ) -> list[Prediction]:
        assert sees in get_args(Sees)
        return ask(
            answerer,
            records,
            batch_size=config.eval.batch_size,
            top=config.eval.top,
            sees=sees,
            dtype=usable_dtype(config),
            num_workers=config.data.num_workers,
            progress=progress,
        )


# --- what belongs together -------------------------------------------------------------------------------------------


def built(answerer: Answerer) -> Built:
    return Built(answerer.model, answerer, answerer.write, collator(answerer), frozen=answerer.frozen)


def known_of(config: AnsweringConfig, train: Records) -> Known:
    """What a network is built for. ValueError for questions of one picture and of two in one split."""
    images, data = images_of(train), config.data
    if data.format in CHOOSING:
        return Known(train, AnswerVocabulary(CHOICE_ANSWERS, "none", "choices"), images, len(CHOICE_ANSWERS))
    if images > 1:
        return Known(train, AnswerVocabulary(PAIR_ANSWERS, "none", "pairs"), images)
    if data.answers is not None:
        return Known(train, AnswerVocabulary.read(data.answers, data.normalise), images)
    answers = AnswerVocabulary.build(
        train,
        min_count=data.min_answer_count,
        max_size=data.max_answers,
        normalise=data.normalise,
    )
    return Known(train, answers, images)


def images_of(records: Records) -> int:
    """Pictures of each question. ValueError where they differ."""
    first = None
    for question in records:
        number = len(question.images)
        first = first or number
        if number != first:
            raise ValueError(
                f"split {records.name}: question {question.question_id} has {number} pictures where others have "
                f"{first}: a pair needs its left and its right picture"
            )
    assert first is not None
    return first


def open_checkpoint(config: AnsweringConfig, checkpoint: Path, records: Records | None) -> Answerer:
    """The model in a folder that training wrote, or in weights of another program."""
    if checkpoint.is_dir() and (checkpoint / SETTINGS_FILE).is_file():
        kind = Settings.read(checkpoint).type
        if kind != config.model.type:
            raise ValueError(
                f'{checkpoint} is a checkpoint of {kind}, and model.type is "{config.model.type}": use the '
                "configuration that it was trained with"
            )
        return _adjusted(open_answerer(checkpoint), config)
    if records is None:
        raise ValueError(f"{checkpoint} has no {SETTINGS_FILE}: it is no checkpoint of a run of this task")
    train = read_records(config, "train") if "train" in config.splits() else records
    return _adjusted(network_of(config.model.type).open_foreign(config, checkpoint, known_of(config, train)), config)


def _adjusted(answerer: Answerer, config: AnsweringConfig) -> Answerer:
    if answerer.adjust is not None:
        answerer.adjust(config)
    return answerer


def place(answerer: Answerer) -> Answerer:
    """Its network on the GPU where there is one, in evaluation mode."""
    answerer.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return answerer


def majority_of(train: Records, records: Records) -> list[Prediction]:
    """The most frequent training answer of each question's type (question type, else answer type), and its share."""
    questions = [one for one in train if one.references]
    answers, groups = [one.answer or one.references[0] for one in questions], [_group(one) for one in questions]
    asked = [_group(one) for one in records]
    found = majority_predictions(majority(answers, groups), asked)
    shares = {
        group: sum(answer == name for answer, other in zip(answers, groups, strict=True) if other == group)
        / max(1, groups.count(group))
        for group, name in set(zip(asked, found, strict=True))
    }
    return [Prediction(((answer, shares[group]),)) for answer, group in zip(found, asked, strict=True)]


def _group(question: Question) -> str:
    return question.question_type or question.answer_type


def _exact(config: AnsweringConfig) -> bool:
    return config.data.format not in _LOWER


def usable_dtype(config: AnsweringConfig) -> str:
    """That of training; no CPU computes in float16."""
    dtype = config.train.dtype
    return "float32" if dtype == "float16" and not torch.cuda.is_available() else dtype


TASK = AnsweringTask()
