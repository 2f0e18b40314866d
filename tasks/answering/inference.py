"""Answers on demand: to questions about given pictures, to a file of them, or to some of a split."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.answering import AnsweringConfig
from data.features import FeatureStore, JoinedStores, Regions
from data.files import write_json, write_text
from data.pictures import Pictures
from data.questions import Question, Questions
from data.reading import load_json
from data.run_folder import RunFolder
from models.towers.named import NamedTower, is_tower, tower_named
from preprocessors.images import load_image
from report.card import Card
from report.contact_sheet import html_sheet
from tasks.answering.asking import ask
from tasks.answering.models import Answerer, Settings
from tasks.answering.records import Records, read_records
from tasks.answering.task import open_checkpoint, place, usable_dtype
from tasks.evaluating import find_checkpoint

LOGGER = logging.getLogger("stylecap")
_KEYS = ("image", "image2", "question", "reference")


@dataclass
class OnDemand:
    """The features of pictures: a store's where it has them, else made by the tower that made the store.

    Attributes:
        files: image id -> its file, for those that are files.
    """

    settings: Settings
    store: FeatureStore | JoinedStores | None
    files: Mapping[str, str] = field(default_factory=dict)
    _made: dict[str, Regions] = field(default_factory=dict)
    _tower: NamedTower | None = None

    def __contains__(self, image_id: object) -> bool:
        return True

    def __getitem__(self, image_id: str) -> Regions:
        """Raises ValueError for a picture that has no features and that no tower can make some of."""
        name = Path(self.files.get(image_id, image_id)).name
        if self.store is not None and name in self.store:
            return self.store[name]
        if image_id not in self._made:
            self._made[image_id] = self._make(image_id)
        return self._made[image_id]

    def _make(self, image_id: str) -> Regions:
        detector, cells = self.settings.detector, self.settings.cells
        if not is_tower(detector) or cells is None:
            raise ValueError(
                f"{image_id}: the feature store does not have it, and the model was trained with features of "
                f"{detector or 'an unknown detector'}, which cannot be made here: import its features first"
            )
        self._tower = self._tower or tower_named(detector)
        return self._tower.features(load_image(self.files.get(image_id, image_id)), image_id, cells)


def run_inference(
    config: AnsweringConfig,
    *,
    images: Sequence[str] | None = None,
    questions: Sequence[str] | None = None,
    json_file: str | None = None,
    random_n: int | None = None,
    split: str | None = None,
    checkpoint: str | None = None,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Answer questions, and show them with their pictures on a contact sheet.

    Exactly one source is given: `images`, each asked every one of `questions`; `json_file`, a list of `{"image",
    "image2"?, "question", "reference"?}`; or `random_n`, so many questions of `split`.

    Features are the store's where it has the picture; those of others are made, where the store's were made by a tower
    of this project. `checkpoint` is as for `run_evaluation`; `inference.json` and `.html` go into the folder `output`
    (None: the run's), in place of former ones.

    Returns:
        The content of `inference.json`: `{"image", "question", "answer", "top", "reference"?}` each.

    Raises:
        ValueError: a picture that is missing, broken or without features, a broken request, no checkpoint.
    """
    if sum(source is not None for source in (images, json_file, random_n)) != 1:
        raise ValueError("inference needs one source: --image, --json or --random")
    if images is not None and not questions:
        raise ValueError('--image needs --question "..."')
    if images is None and questions:
        raise ValueError("--question goes with --image; leave it out")
    source = find_checkpoint(config.work_dir, checkpoint)
    records = None
    if random_n is not None:
        records = _drawn(read_records(config, split or config.eval.split), random_n, config.seed)
    elif json_file is not None:
        asked = read_requests(json_file)
    else:
        asked = [_asked(number, (image,), text) for number, (image, text) in enumerate(_product(images, questions))]
    answerer = place(open_checkpoint(config, source, records or _any_records(config)))
    if records is None:
        records = _records(config, answerer, asked)
    predictions = answered(answerer, records, config)
    results = [_result(records, question, one.top) for question, one in zip(records, predictions, strict=True)]
    _write(Path(output or config.work_dir), results)
    return results


def answered(answerer: Answerer, records: Records, config: AnsweringConfig) -> Any:
    """The predictions for these questions, with the settings of a configuration."""
    sees: Any = answerer.settings.sees
    dtype, size = usable_dtype(config), config.eval.batch_size
    return ask(answerer, records, batch_size=size, top=config.eval.top, sees=sees, dtype=dtype)


def read_requests(path: str) -> list[Question]:
    """Requests of a JSON file: a list of `{"image", "image2"?, "question", "reference"?}`.

    Raises ValueError with file, index and key.
    """
    try:
        records = load_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot read the requests ({error.strerror}): name an existing file") from error
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error}): repair it") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f'{path}: expected a list of requests such as {{"image": "a.jpg", "question": "what is it?"}}')
    return [_request(path, number, record) for number, record in enumerate(records)]


def _request(path: str, number: int, record: Any) -> Question:
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("image", "question")):
        raise ValueError(f"{path}: request {number}: the keys 'image' and 'question' must hold texts")
    for key, value in record.items():
        if key not in _KEYS or not isinstance(value, str):
            raise ValueError(f"{path}: request {number}: key {key!r}: the keys are {', '.join(_KEYS)}, each a text")
    images = tuple(record[key] for key in ("image", "image2") if key in record)
    return _asked(number, images, record["question"], record.get("reference", ""))


def _product(images: Sequence[str] | None, questions: Sequence[str] | None) -> list[tuple[str, str]]:
    return [(image, text) for image in images or () for text in questions or ()]


def _asked(number: int, images: tuple[str, ...], text: str, reference: str = "") -> Question:
    return Question(number, images, text, reference)


def _any_records(config: AnsweringConfig) -> Records | None:
    splits = config.splits()
    return read_records(config, splits[0]) if splits else None


def _records(config: AnsweringConfig, answerer: Answerer, asked: Sequence[Question]) -> Records:
    """Questions about pictures that are files, or that a place of the configuration has."""
    known = _any_records(config)
    files: dict[str, str] = {}
    for image in {image for question in asked for image in question.images}:
        found = known.file_of(image) if known is not None and not Path(image).is_file() else image
        files[image] = found or image
    store = known.features if known is not None else None
    features: Any = OnDemand(answerer.settings, store, files)
    places = sorted({str(Path(image).parent) for image in files if Path(image).is_file()})
    if known is not None and known.pictures is not None:
        places += known.pictures.places
    return Records(Questions("inference", asked), features, Pictures(places) if places else None)


def _drawn(records: Records, count: int, seed: int) -> Records:
    rows = random.Random(seed).sample(range(len(records)), min(count, len(records)))
    return Records(records.questions.take(rows), records.features, records.pictures)


def _result(records: Records, question: Question, top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    result: dict[str, Any] = {"image": " ".join(question.images), "question": question.text, "answer": top[0][0]}
    result["top"] = [[answer, round(share, 4)] for answer, share in top]
    image = question.images[0]
    result["file"] = image if Path(image).is_file() else records.file_of(image)
    return result | ({"reference": question.answer} if question.answer else {})


def _write(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    files = RunFolder(folder)
    write_json(files.captions, results)
    cards = [
        Card(
            one["file"],
            one["question"],
            ", ".join(f"{answer} ({100 * share:.0f}%)" for answer, share in one["top"]),
            [one["reference"]] if "reference" in one else [],
        )
        for one in results
    ]
    write_text(files.contact_sheet, html_sheet(cards, f"Answers to {len(cards)} questions"))
    LOGGER.info("answers and a contact sheet: %s, %s", files.captions, files.contact_sheet.name)
