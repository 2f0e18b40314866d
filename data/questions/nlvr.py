"""NLVR2's JSON lines (sentences about pairs of photographs) and NLVR's (sentences about drawings)."""

from collections.abc import Iterator, Sequence
from typing import Any

from data.questions.files import PathLike, Record, read_lines
from data.questions.records import Question

# Order in which picture k shows the three boxes of an NLVR example: all orders, by the alphabet.
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
FOLDS = 5  # of NLVR's sentences
_KEPT = ("synset", "query", "left_url", "right_url", "directory")


def read_nlvr2(questions: PathLike) -> Iterator[Question]:
    """Lines of `{identifier: split-set-pair-sentence, sentence, label?}`; the label is "True" or "False".

    Image ids are those of the official files and of LXMERT's features: split-set-pair-img0 and -img1.
    """
    for record in read_lines(questions):
        identifier = record.get("identifier", str)
        if identifier.count("-") != 3:
            raise record.wrong(f"identifier {identifier!r} is not split-set-pair-sentence", "correct it")
        pair = identifier.rpartition("-")[0]
        yield Question(
            identifier,
            (f"{pair}-img0", f"{pair}-img1"),
            record.get("sentence", str),
            _label(record),
            extra={name: record.content[name] for name in _KEPT if name in record.content},
        )


def read_nlvr1(questions: PathLike, split: str, image: str = "{identifier}-{number}") -> Iterator[Question]:
    """Lines of `{identifier: n-m, sentence, label?, structured_rep}`: six questions each, one a picture.

    The id of a question is the official picture's name, `split-n-m-k.png`. `image` makes the image id from `split`,
    `identifier` and `number`. `extra` has `sentence_id` (n: no two splits may share one), `sentence_fold` (n modulo 5,
    to hold sentences out by), and `boxes`: the structured boxes from left to right in this picture.
    """
    for record in read_lines(questions):
        identifier = record.get("identifier", str)
        boxes = record.get("structured_rep", list)
        if len(boxes) != len(ORDERS[0]):
            raise record.wrong(f"key 'structured_rep' has {len(boxes)} boxes", "give three")
        sentence = identifier.partition("-")[0]
        fold = int(sentence) % FOLDS if sentence.isdecimal() else 0
        for number, order in enumerate(ORDERS):
            yield Question(
                f"{split}-{identifier}-{number}.png",
                (image.format(split=split, identifier=identifier, number=number),),
                record.get("sentence", str),
                _label(record),
                extra={"sentence_id": sentence, "sentence_fold": fold, "boxes": shown(boxes, order)},
            )


def shown(boxes: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """The boxes from left to right."""
    return [boxes[place] for place in order]


def _label(record: Record) -> str:
    label = record.get("label", str, default="")
    if label.lower() not in ("", "true", "false"):
        raise record.wrong(f"key 'label': expected True or False, found {label!r}", "correct it")
    return str(label)
