"""What a page shows of one prediction, whatever the task."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A picture and what was said of it.

    Attributes:
        image: the picture's file; None where there is none.
        heading: what was asked for: a style, a question.
        text: what was predicted.
        references: what people wrote.
        note: what else is known of the prediction, such as a style that a classifier names.
        score: of this prediction, in hundredths; None where there is none.
    """

    image: str | None
    heading: str
    text: str
    references: Sequence[str] = ()
    note: str = ""
    score: float | None = None
