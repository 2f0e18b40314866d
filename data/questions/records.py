"""Questions: what every reader produces and every task consumes.

A data set holds hundreds of thousands of them. As Python objects they would be copied, page by page, into every loader
worker, so a split keeps each as one short JSON text in a flat buffer and makes the record when it is asked for.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from data.samples import PackedStrings

QuestionId = int | str


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one picture, or a sentence about a pair.

    Attributes:
        question_id: an integer for VQA, a string elsewhere, as the submissions need it.
        images: one id, or two: the left and the right one.
        text: the question or the sentence.
        answer: the reference; "" where the data gives none.
        answers: those of all annotators; empty where there is but one.
        labels: answer -> 0 to 1, where the data gives soft labels, else None.
        answer_type, question_type: "" where the data has none.
        extra: what else the data set has, plain JSON values.
    """

    question_id: QuestionId
    images: tuple[str, ...]
    text: str
    answer: str = ""
    answers: tuple[str, ...] = ()
    labels: Mapping[str, float] | None = None
    answer_type: str = ""
    question_type: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def references(self) -> tuple[str, ...]:
        """All answers that are known: the annotators', else the single one, else the labels'."""
        return self.answers or ((self.answer,) if self.answer else tuple(self.labels or ()))

    def value(self, name: str) -> Any:
        """A field or an entry of `extra`; None where there is none."""
        return getattr(self, name) if name in self.__slots__ else self.extra.get(name)


class Questions(Sequence[Question]):
    """An immutable split of N questions, in the order of the files."""

    def __init__(self, name: str, questions: Iterable[Question]) -> None:
        """Raises ValueError if there are none."""
        self.name = name
        self._rows = PackedStrings(map(_pack, questions))
        if not len(self._rows):
            raise ValueError(f"{name}: the split has no questions: check the files and what is selected of them")

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Question: ...

    @overload
    def __getitem__(self, index: slice) -> "Questions": ...

    def __getitem__(self, index: int | slice) -> "Question | Questions":
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        return _unpack(self._rows[index])

    def __iter__(self) -> Iterator[Question]:
        return map(_unpack, self._rows)

    def take(self, rows: Iterable[int]) -> "Questions":
        """Those rows, in this order. Raises ValueError if there are none."""
        return Questions(self.name, (self[row] for row in rows))

    def select(
        self, only: Mapping[str, Iterable[Any]] | None = None, exclude: Mapping[str, Iterable[Any]] | None = None
    ) -> "Questions":
        """The questions whose fields, or entries of `extra`, are among the values of `only` and not among those of
        `exclude`; values are compared as texts. Raises ValueError for a name that no question has and for no questions.
        """
        wanted = {name: {str(value) for value in values} for name, values in (only or {}).items()}
        unwanted = {name: {str(value) for value in values} for name, values in (exclude or {}).items()}
        for name in wanted | unwanted:
            if all(question.value(name) is None for question in self):
                raise ValueError(f"{self.name}: no question has {name!r}: select by a column of the data")
        return Questions(
            self.name,
            (
                question
                for question in self
                if all(str(question.value(name)) in values for name, values in wanted.items())
                and not any(str(question.value(name)) in values for name, values in unwanted.items())
            ),
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image's id once, in order of first appearance."""
        return tuple(dict.fromkeys(image for question in self for image in question.images))

    def tally(self, name: str) -> Counter[str]:
        """Value of a field or an entry of `extra` -> questions that have it."""
        return Counter(str(question.value(name)) for question in self)


def _pack(question: Question) -> str:
    values = [
        question.question_id,
        question.images,
        question.text,
        question.answer,
        question.answers,
        None if question.labels is None else dict(question.labels),
        question.answer_type,
        question.question_type,
        dict(question.extra),
    ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _unpack(row: str) -> Question:
    question_id, images, text, answer, answers, *rest = json.loads(row)
    return Question(question_id, tuple(images), text, answer, tuple(answers), *rest)
