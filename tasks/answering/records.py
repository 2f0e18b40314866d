"""The splits of a question data set, as a configuration names them: questions, features and pictures."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from conf.answering import DRAWN, AnsweringConfig
from data.demo.questions import STORE, render_questions
from data.features import FeatureStore, JoinedStores, Regions, open_stores
from data.pictures import Pictures
from data.questions import Question, Questions, read_questions
from data.questions.doctor import drop_bad, examine
from tasks.answering.examined import Examined
from trainers.distributed import World

LOGGER = logging.getLogger("stylecap")


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
        stores, places = [str(folder / STORE)], [str(folder / "images")]
        kind, file = ("plain", f"questions_{split}.jsonl") if data.format == "demo" else ("lxmert-nlvr2", None)
        questions = read_questions(split, format=kind, questions=folder / (file or f"pairs_{split}.json"))
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
    chosen = {name: value if isinstance(value, list) else [value] for name, value in data.held_out.items()}
    only, exclude = (chosen, None) if source != split else (None, chosen if split == "train" else None)
    found = read_questions(
        source,
        format=data.format,
        questions=several(getattr(data, source)),
        annotations=several(getattr(data, f"{source}_answers")) or None,
        only=only,
        exclude=exclude or None,
    )
    found.name = split
    return found


@lru_cache(maxsize=4)
def _stores(paths: tuple[str, ...]) -> FeatureStore | JoinedStores:
    return open_stores(paths)


@lru_cache(maxsize=4)
def _pictures(places: tuple[str, ...]) -> Pictures:
    return Pictures(places)


def draw(config: AnsweringConfig) -> Callable[[Path], None]:
    """What draws the set of data.format = "demo" or "demo-pairs" into a folder."""
    data, seed = config.data, config.seed
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
