"""Answer vocabularies: which answers a head can give, and the scores that a question teaches it."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.files import replacing
from data.questions.answer_text import lower, normalise_answer
from data.questions.files import PathLike, read_json, read_text
from data.questions.records import Question

# How an answer is written before it is counted or looked up.
NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": lambda answer: answer,
    "lower": lambda answer: lower(answer).strip(),
    "vqa": normalise_answer,
}
# Score of an answer that so many of ten annotators gave (VQA's leave-one-out accuracy).
_SOFT = (0.0, 0.3, 0.6, 0.9)
_NAME = "ans"  # the key of an answer in all_ans.json


def soft_score(matches: int) -> float:
    """0, 0.3, 0.6, 0.9 and 1 for 0, 1, 2, 3 and more annotators who gave the answer."""
    return _SOFT[matches] if matches < len(_SOFT) else 1.0


class AnswerVocabulary(Sequence[str]):
    """N answers; `vocabulary[i]` is the i-th, `vocabulary.index_of(answer)` its number."""

    def __init__(self, answers: Iterable[str], normalise: str = "none", source: str = "answers") -> None:
        """`normalise` is a key of `NORMALISERS`: how an answer is written before it is looked up. Raises ValueError for
        an unknown one, for no answers and for one that is there twice.
        """
        if normalise not in NORMALISERS:
            raise ValueError(f"{source}: normalise is {normalise!r}: choose one of {', '.join(NORMALISERS)}")
        self.answers = tuple(answers)
        self.normalise = normalise
        self._rows: dict[str, int] = {}
        for row, answer in enumerate(self.answers):
            if self._rows.setdefault(answer, row) != row:
                raise ValueError(
                    f"{source}: answer {answer!r} is there twice, at {self._rows[answer]} and {row}: remove one"
                )
        if not self.answers:
            raise ValueError(f"{source}: no answers: give at least one")

    @classmethod
    def build(
        cls,
        questions: Iterable[Question],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        normalise: str = "none",
        order: str = "count",
    ) -> "AnswerVocabulary":
        """Of the answers (`Question.answer`, each normalised) that occur at least `min_count` times.

        The most frequent come first, of equals the first to occur; `max_size` keeps so many of these. `order`
        "appearance" puts what is kept in order of first occurrence. Raises ValueError if nothing is left.
        """
        if order not in ("count", "appearance"):
            raise ValueError(f"order is {order!r}: choose count or appearance")
        change = NORMALISERS.get(normalise, NORMALISERS["none"])
        counts = Counter(change(question.answer) for question in questions if question.answer)
        frequent = [answer for answer, count in counts.most_common() if count >= min_count][:max_size]
        if not frequent:
            raise ValueError(f"no answer occurs {min_count} times: lower min_count, or use questions with answers")
        kept = set(frequent)
        return cls(frequent if order == "count" else [answer for answer in counts if answer in kept], normalise)

    @classmethod
    def read(cls, path: PathLike, normalise: str = "none") -> "AnswerVocabulary":
        """A file of `save`, an ans2label or label2ans JSON, LXMERT's all_ans.json, OpenVQA's answer dictionary (a list
        of both tables), or text with one answer a line; a file of `save` has its own `normalise`.

        Raises ValueError for a file that cannot be read, and for tables whose numbers are not 0 to N - 1.
        """
        if not str(path).endswith(".json"):
            lines = read_text(path).splitlines()
            return cls([line for line in lines if line.strip()], normalise, str(path))
        content = read_json(path)
        if isinstance(content, dict) and set(content) == {"answers", "normalise"}:
            return cls(content["answers"], content["normalise"], str(path))
        return cls(_from_table(content, path), normalise, str(path))

    def save(self, path: PathLike) -> None:
        """Writes a JSON file for `read`."""
        with replacing(Path(path)) as temporary:
            content = {"answers": self.answers, "normalise": self.normalise}
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    def save_lxmert(self, ans2label: PathLike, label2ans: PathLike) -> None:
        """Writes the two JSON files that LXMERT reads."""
        for path, content in ((ans2label, self._rows), (label2ans, list(self.answers))):
            with replacing(Path(path)) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: Any) -> Any:
        return self.answers[index]

    def __contains__(self, answer: object) -> bool:
        return isinstance(answer, str) and self.index_of(answer) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AnswerVocabulary):
            return NotImplemented
        return (self.answers, self.normalise) == (other.answers, other.normalise)

    def __hash__(self) -> int:
        return hash((self.answers, self.normalise))

    def index_of(self, answer: str) -> int | None:
        """The row of an answer as it is, else normalised; None if it is not there."""
        row = self._rows.get(answer)
        return row if row is not None else self._rows.get(NORMALISERS[self.normalise](answer))

    def targets(self, question: Question) -> tuple[np.ndarray, np.ndarray]:
        """int64 [K] rows, ascending, and float32 [K] scores of the answers that a question teaches; K may be 0.

        Labels count as they are. Several annotators' answers give `soft_score` of how often each was given. A single
        answer gives 1.
        """
        scores: dict[int, float] = {}
        for answer, score in self._scores(question).items():
            row = self.index_of(answer)
            if row is not None and score > 0:
                scores[row] = max(score, scores.get(row, 0.0))
        rows = sorted(scores)
        return np.array(rows, dtype=np.int64), np.array([scores[row] for row in rows], dtype=np.float32)

    def _scores(self, question: Question) -> Mapping[str, float]:
        if question.labels is not None:
            return question.labels
        if not question.answers:
            return {question.answer: 1.0} if question.answer else {}
        change = NORMALISERS[self.normalise]
        return {answer: soft_score(count) for answer, count in Counter(map(change, question.answers)).items()}


def _from_table(content: Any, path: PathLike) -> list[str]:
    """The answers by row, of one of the forms that others write."""
    if isinstance(content, list) and [type(part) for part in content] == [dict, dict] and _NAME not in content[0]:
        content = content[0]  # OpenVQA: answer -> row, row -> answer
    if isinstance(content, dict):
        rows = sorted(content.items(), key=lambda item: _number(item[1], path))
        if [row for _, row in rows] != list(range(len(rows))):
            raise ValueError(f"{path}: the rows are not 0 to {len(rows) - 1}: it is no table of answer to row")
        return [answer for answer, _ in rows]
    if not isinstance(content, list):
        raise ValueError(f"{path}: no answer vocabulary: give a list of answers, or a table of answer to row")
    answers: list[str] = []
    for row, entry in enumerate(content):
        answer = entry.get(_NAME) if isinstance(entry, dict) else entry
        if not isinstance(answer, str):
            raise ValueError(f"{path}: entry {row} is no answer: give a list of texts, or of objects with 'ans'")
        answers.append(answer)
    return answers


def _number(value: Any, path: PathLike) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{path}: {value!r} is no row number: it is no table of answer to row")
    return value
