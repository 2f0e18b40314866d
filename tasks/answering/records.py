"""The splits of a question data set, as a configuration names them: questions, features and pictures."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from conf.answering import DRAWN, AnsweringConfig
from data.demo import next_to
from data.demo.questions import STORE, render_questions
from data.features import FeatureStore, JoinedStores, Regions, open_stores
from data.features.store import name_hash
from data.pictures import Pictures, without_suffix
from data.questions import Question, Questions, read_questions
from data.questions.doctor import drop_bad, examine
from tasks.answering.examined import Examined
from trainers.distributed import World

LOGGER = logging.getLogger("stylecap")


_OF_DRAWN = {
    "demo": ("plain", "questions_{}.jsonl", STORE),
    "demo-pairs": ("lxmert-nlvr2", "pairs_{}.json", STORE),
    "demo-next-to": ("plain", "{}.jsonl", next_to.FEATURES),
}
"""Drawn format -> the form of its question files, their names, and the store beside them."""
_HELD_NEXT_TO = 20  # one in so many pictures of the set is for validation
_TENTH = "image_tenth"


@dataclass(frozen=True)
class Records:
    """Questions, and where what they are about lies; `len` counts questions."""

    questions: Questions
    features: FeatureStore | JoinedStores
    pictures: Pictures | None = None

    @property
    def name(self) -> str:
        return self.questions.name

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)

    def regions(self, question: Question) -> list[Regions]:
        """Of each picture of a question. ValueError for one without features."""
        try:
            return [self.features[image] for image in question.images]
        except KeyError as error:
            raise ValueError(f"question {question.question_id}: {error.args[0]}") from None

    def file_of(self, image_id: str) -> str | None:
        """The file of a picture, for pages."""
        return self.pictures.file_of(image_id) if self.pictures is not None else None


def several(text: str | None) -> list[str]:
    """A setting that names several files with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def read_records(config: AnsweringConfig, split: str) -> Records:
    """The split of that name; a drawn set is drawn if it is not there yet.

    Raises ValueError for a split that is not configured, empty or broken.
    """
    if split not in config.splits():
        raise ValueError(f'the configuration has no split "{split}": set data.{split} to its questions')
    data = config.data
    if data.format in DRAWN:
        folder = Path(config.drawn_dir())
        draw(config)(folder)
        form, pattern, store = _OF_DRAWN[data.format]
        stores = [str(folder / store)]
        places = [] if data.format == "demo-next-to" else [str(folder / "images")]
        questions = read_questions(split, format=form, questions=folder / pattern.format(split))
    else:
        stores, places = several(data.features), several(data.images)
        questions = _from_files(config, split)
    limit = config.subset() if split != "test" else None
    if limit is not None:
        kept = set(questions.image_ids[:limit])
        questions = Questions(split, (one for one in questions if kept.issuperset(one.images)))
    return Records(questions, _stores(tuple(stores)), _pictures(tuple(places)) if places else None)


def _from_files(config: AnsweringConfig, split: str) -> Questions:
    data = config.data
    source = "train" if split == "val" and data.held_out else split
    held = {name: value for name, value in data.held_out.items() if name != _TENTH}
    chosen = {name: value if isinstance(value, list) else [value] for name, value in held.items()}
    only, exclude = (chosen, None) if source != split else (None, chosen if split == "train" else None)
    found = read_questions(
        source,
        format=data.format,
        questions=several(getattr(data, source)),
        annotations=several(getattr(data, f"{source}_answers")) or None,
        only=only,
        exclude=exclude or None,
    )
    if data.image_ids == "number":
        found = Questions(split, (replace(one, images=tuple(map(_number, one.images))) for one in found))
    tenth = data.held_out.get(_TENTH)
    if tenth is not None and split in ("train", "val"):
        found = Questions(split, (one for one in found if (_tenth(one.images[0]) == tenth) == (split == "val")))
    found.name = split
    return found


def _number(image_id: str) -> str:
    """The number that a picture's name ends in, without leading zeros; a name without one as it is."""
    digits = re.search(r"(\d+)$", image_id)
    return str(int(digits[1])) if digits else image_id


def _tenth(image_id: str) -> int:
    """Into which of ten parts a picture falls, by its name without suffix."""
    return name_hash(without_suffix(image_id)) % 10


@lru_cache(maxsize=4)
def _stores(paths: tuple[str, ...]) -> FeatureStore | JoinedStores:
    return open_stores(paths)


@lru_cache(maxsize=4)
def _pictures(places: tuple[str, ...]) -> Pictures:
    return Pictures(places)


def draw(config: AnsweringConfig) -> Callable[[Path], None]:
    """What draws the set of a format of `DRAWN` into a folder."""
    data, seed = config.data, config.seed
    if data.format == "demo-next-to":
        held = max(1, data.demo_images // _HELD_NEXT_TO)
        return partial(next_to.render, train=data.demo_images - held, val=held, seed=seed)
    pairs = data.demo_questions if data.format == "demo-pairs" else 0
    per_image = data.demo_questions if data.format == "demo" else 1

    def into(folder: Path) -> None:
        render_questions(folder, images=data.demo_images, seed=seed, per_image=per_image, pairs=pairs)

    return into


def examined(config: AnsweringConfig, records: Records) -> Examined:
    """The doctor's report, with what the split shares with that of training."""
    splits = {records.name: records.questions}
    if records.name != "train" and "train" in config.splits():
        splits = {"train": read_records(config, "train").questions} | splits
    pictures = records.pictures
    has_image = None if pictures is None else pictures.__contains__
    report = examine(splits, has_image=has_image, has_feature=records.features.__contains__)
    return Examined(report.splits[records.name], report.leaks)


def checked(config: AnsweringConfig, records: Records, world: World) -> Records:
    """The split without faulty questions. ValueError where there are any and `data.skip_bad` is false.

    A picture that is missing is no fault here: features are what is learnt from.
    """
    split = {records.name: records.questions}
    report = examine(split, has_feature=records.features.__contains__).splits[records.name]
    if report.faults and not config.data.skip_bad:
        found = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.faults.items())
        example = next(iter(report.examples[next(iter(report.faults))]), "")
        raise ValueError(
            f"split {records.name} has faults: {found} (such as {example}); see them with the command doctor, then "
            "correct the data or set data.skip_bad=true to leave these questions out"
        )
    questions, skipped = drop_bad(records.questions, report)
    if any(skipped.values()) and world.is_main:
        LOGGER.warning("split %s: skipped questions: %s", records.name, skipped)
    return replace(records, questions=questions)


def identity(records: Records) -> dict[str, str]:
    """Digests of the questions with their answers, and of the features."""
    digest = hashlib.sha256()
    for one in records.questions:
        row: tuple[Any, ...] = (
            one.question_id,
            one.images,
            one.text,
            one.references,
            sorted((one.labels or {}).items()),
        )
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    stores = records.features.stores if isinstance(records.features, JoinedStores) else [records.features]
    arrays = hashlib.sha256(repr([sorted(store.info.arrays.items()) for store in stores]).encode())
    return {"training questions": digest.hexdigest(), "training features": arrays.hexdigest()}
