"""The splits of sentences about pictures that pre-training learns from."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from conf.pretraining import PretrainingConfig
from data.demo.captions import drawn_captions
from data.demo.questions import STORE, render_questions
from data.features import open_stores
from data.pictures import Pictures
from data.questions import AnswerVocabulary, Questions, read_questions
from data.questions.doctor import examine
from tasks.answering.examined import Examined
from tasks.answering.models import Known
from tasks.answering.records import Records, several

NO_ANSWERS = AnswerVocabulary(("none",), "none", "no answers")
"""Of sentences none of which is answered: a head needs a row."""


def read_records(config: PretrainingConfig, split: str) -> Records:
    """The split of that name; a drawn set is drawn if it is not there yet.

    Raises ValueError for a split that is not configured, empty or broken.
    """
    if split not in config.splits():
        raise ValueError(f'the configuration has no split "{split}": set data.{split} to its sentences')
    data = config.data
    if data.format == "demo":
        folder = Path(config.drawn_dir())
        draw(config)(folder)
        asked = read_questions(split, format="plain", questions=folder / f"questions_{split}.jsonl")
        questions = Questions(split, chain(drawn_captions(folder, split, data.demo_captions), asked))
        stores, places = [str(folder / STORE)], [str(folder / "images")]
    else:
        questions = read_questions(split, format=data.format, questions=several(getattr(data, split)))
        stores, places = several(data.features), several(data.images)
    return Records(questions, open_stores(stores), Pictures(places) if places else None)


def draw(config: PretrainingConfig) -> Callable[[Path], None]:
    """What draws the set of data.format = "demo" into a folder."""
    data, seed = config.data, config.seed

    def into(folder: Path) -> None:
        render_questions(folder, images=data.demo_images, seed=seed, per_image=data.demo_questions)

    return into


def known_of(config: PretrainingConfig, train: Records) -> Known:
    """What a network is built for."""
    data, images = config.data, max(len(one.images) for one in train)
    if data.answers is not None:
        return Known(train, AnswerVocabulary.read(data.answers), images)
    if not any(one.answer for one in train):
        return Known(train, NO_ANSWERS, images)
    answers = AnswerVocabulary.build(train, min_count=data.min_answer_count, max_size=data.max_answers)
    return Known(train, answers, images)


def examined(config: PretrainingConfig, records: Records) -> Examined:
    """The doctor's report, with what the split shares with that of training."""
    splits: dict[str, Any] = {records.name: records.questions}
    if records.name != "train" and "train" in config.splits():
        splits = {"train": read_records(config, "train").questions} | splits
    pictures = records.pictures
    has_image = None if pictures is None else pictures.__contains__
    report = examine(splits, has_image=has_image, has_feature=records.features.__contains__)
    return Examined(report.splits[records.name], report.leaks)
