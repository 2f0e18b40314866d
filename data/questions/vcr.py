"""VCR's JSON lines: questions that point at objects of a film's still, four answers, four reasons for the right one.

A text is a list of words and of lists of object numbers: `["Why", "is", [0], "pointing", "at", [1, 2], "?"]`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.questions.files import PathLike, Record, read_lines
from data.questions.records import Question
from data.reading import parse_json

Span = Sequence[str | list[int]]

CHOICES = 4
PERSON = "person"
_EVERYONE = ("everyone", "everyones")
_TEXTS = ("question", "answer_choices", "rationale_choices")


@dataclass(frozen=True, slots=True)
class Still:
    """A picture and its objects, as a metadata file has them.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels of each object.
        names: the class of each object.
        size: (height, width) in pixels.
    """

    image_id: str
    boxes: list[list[float]]
    names: list[str]
    size: tuple[int, int]


def read_vcr(path: PathLike) -> Iterator[Question]:
    """Q->A: which of four answers is right. The answer is its number, "0" to "3", or "" in a test set.

    `extra` has what `preprocessors.visualbert.vcr.choices` reads: the texts, `objects`, `answer_label`, and `used`, the
    objects that any text of the line points at, reasons included. A question's text lists its choices for readers.
    """
    for record in read_lines(path):
        item = _item(record)
        extra = {name: item[name] for name in ("question", "answer_choices", "objects", "used", "answer_label")}
        yield _question(record, item["question"], item["answer_choices"], item["answer_label"], extra)


def read_vcr_rationale(path: PathLike) -> Iterator[Question]:
    """QA->R: which of four reasons is that of the right answer; as `read_vcr`, with both kinds of choices."""
    for record in read_lines(path):
        item = _item(record)
        yield _question(record, _stem(item), item["rationale_choices"], item["rationale_label"], item)


def read_vcr_pairs(path: PathLike) -> Iterator[Question]:
    """Rows of pre-training: a question with one of its answers, then question and right answer with one reason.

    Eight of a line; four where nothing tells the right answer. The answer says whether the choice is right, "True" or
    "False". `extra` is that of a question with a single choice, whose `answer_label` is 0 where it is right, else -1.
    """
    for record in read_lines(path):
        item = _item(record)
        kinds = [("a", item["question"], item["answer_choices"], item["answer_label"])]
        if item["answer_label"] is not None:
            kinds.append(("r", _stem(item), item["rationale_choices"], item["rationale_label"]))
        for kind, stem, spans, label in kinds:
            for number, span in enumerate(spans):
                correct = None if label is None else 0 if number == label else -1
                extra = {"question": stem, "answer_choices": [span], "answer_label": correct}
                yield Question(
                    f"{record.get('annot_id', str)}-{kind}{number}",
                    (record.get("img_fn", str),),
                    f"{_words(stem, item['objects'])} {_words(span, item['objects'])}",
                    "" if correct is None else str(correct == 0),
                    extra=extra | {"objects": item["objects"], "used": item["used"]},
                )


def read_stills(path: PathLike) -> Iterator[tuple[str, str, int]]:
    """(picture, metadata file, objects) of every line, both names as they stand there."""
    for record in read_lines(path):
        yield record.get("img_fn", str), record.get("metadata_fn", str), len(record.get("objects", list))


def parse_still(image_id: str, content: bytes, source: str, objects: int) -> Still:
    """A metadata file: `{"boxes": [[x1, y1, x2, y2, score], ...], "names": [...], "width", "height"}`.

    Raises ValueError for a file of another form, and for another number of objects than the questions have.
    """
    try:
        found = parse_json(content.decode("utf-8"))
        boxes = [[float(value) for value in box[:4]] for box in found["boxes"]]
        names, size = [str(name) for name in found["names"]], (int(found["height"]), int(found["width"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: no metadata of VCR ({type(error).__name__}: {error}): copy it again") from None
    if len(boxes) != objects or len(names) != objects or any(len(box) != 4 for box in boxes):
        raise ValueError(
            f"{source}: {len(boxes)} boxes and {len(names)} names, but the questions have {objects} objects: use the "
            "metadata that came with them"
        )
    return Still(image_id, boxes, names, size)


def objects_used(item: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The objects that any text of an item points at, and the region of each object: -1 where it is not used.

    Region 0 is the whole image. "everyone" points at all people, and so does an item that points at nothing. `used`,
    where an item has it, is taken as it is.
    """
    used = item["used"] if "used" in item else _used(item)
    regions = [-1] * len(item["objects"])
    for region, number in enumerate(sorted(used), start=1):
        regions[number] = region
    return sorted(used), regions


def _used(item: Mapping[str, Any]) -> set[int]:
    objects = item["objects"]
    people = {number for number, kind in enumerate(objects) if kind == PERSON}
    used: set[int] = set()
    for span in [item["question"], *item["answer_choices"], *item["rationale_choices"]]:
        for word in span:
            if isinstance(word, str):
                used |= people if word.lower() in _EVERYONE else set()
            else:
                used.update(number for number in word if 0 <= number < len(objects))
    return used or people


def _item(record: Record) -> dict[str, Any]:
    """The texts, objects and labels of a line, checked, with `used`."""
    objects = record.get("objects", list)
    item: dict[str, Any] = {"annot_id": record.get("annot_id", str), "objects": objects}
    for name in _TEXTS:
        item[name] = record.get(name, list)
        spans = [item[name]] if name == "question" else item[name]
        if name != "question" and len(spans) != CHOICES:
            raise record.wrong(f"key {name!r} has {len(spans)} choices", f"give {CHOICES}")
        for span in spans:
            _check_span(record, name, span, len(objects))
    for name in ("answer_label", "rationale_label"):
        label = item[name] = record.get(name, int, default=None)
        if label is not None and not 0 <= label < CHOICES:
            raise record.wrong(
                f"key {name!r} is {label}, outside of the {CHOICES} choices", f"correct it: 0 to {CHOICES - 1}"
            )
    return item | {"used": sorted(_used(item))}


def _check_span(record: Record, name: str, span: Any, objects: int) -> None:
    if not isinstance(span, list) or not span:
        raise record.wrong(f"key {name!r}: a text is no list of words", "give its words and lists of object numbers")
    for word in span:
        numbers = word if isinstance(word, list) else []
        if not isinstance(word, str | list) or any(type(number) is not int for number in numbers):
            raise record.wrong(f"key {name!r}: {word!r} is neither a word nor object numbers", "correct it")
        beyond = [number for number in numbers if not 0 <= number < objects]
        if beyond:
            raise record.wrong(f"key {name!r} points at object {beyond[0]}, but 'objects' has {objects}", "correct it")


def _stem(item: Mapping[str, Any]) -> list[Any]:
    """What stands before a reason: the question and its right answer, as far as that is known."""
    label = item["answer_label"]
    return [*item["question"], *(item["answer_choices"][label] if label is not None else ())]


def _question(
    record: Record, stem: Span, choices: Sequence[Span], label: int | None, extra: Mapping[str, Any]
) -> Question:
    objects = extra["objects"]
    shown = [_words(stem, objects), *(f"({n}) {_words(span, objects)}" for n, span in enumerate(choices))]
    answer = "" if label is None else str(label)
    return Question(record.get("annot_id", str), (record.get("img_fn", str),), " ".join(shown), answer, extra=extra)


def _words(span: Span, objects: Sequence[str]) -> str:
    """A text for readers: objects by their class and number, from 1, as VCR shows them."""
    parts = (w if isinstance(w, str) else ", ".join(f"{objects[n]}{n + 1}" for n in w) for w in span)
    return " ".join(parts)
