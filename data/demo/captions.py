"""Captions of the drawn scenes without style, as sentences about the pictures of `data.demo.questions`."""

from collections.abc import Iterator
from pathlib import Path

from data.questions.records import Question
from data.reading import load_json

_PLAIN = "Factual"
CAPTION = "caption"
"""Their question type."""


def drawn_captions(directory: str | Path, split: str, per_image: int) -> Iterator[Question]:
    """`per_image` captions, at most 5, of each picture of a split in a folder that `data.demo.render` filled."""
    for record in load_json(Path(directory) / f"{split}.json"):
        if record["personality"] == _PLAIN:
            picture, texts = record["image_hash"], [record["comment"], *record["additional_comments"]]
            for number, text in enumerate(texts[:per_image]):
                yield Question(f"{picture}-{CAPTION}-{number}", (picture,), text, question_type=CAPTION)
