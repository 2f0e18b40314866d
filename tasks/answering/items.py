"""What an answerer learns from and is asked: questions as items, each prepared by a loader's worker."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from data.questions import AnswerVocabulary
from preprocessors.questions import Sees, dense_scores
from preprocessors.soft_targets import answer_shares
from tasks.answering.models import Answerer
from tasks.answering.records import Records


class QuestionItems:
    """Items of all questions; in an order of the epoch's own where there is a `seed`. The error in place of one whose
    features cannot be read. `together`: questions about one picture that stand side by side in an epoch's order."""

    def __init__(
        self, records: Records, answerer: Answerer, sees: Sees, seed: int | None = None, *, together: int = 1
    ) -> None:
        self.records = records
        self.answerer = answerer
        self.answers = answerer.answers
        self.sees = sees
        self.seed = seed
        self.shares = answerer.settings.loss == "kld"
        self.pictures = _pictures(records) if together > 1 else None
        self.together = together
        # Shared, because workers are copies of this object made before the next epoch is set.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._drawn, self._order = -1, np.arange(len(records))

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any] | Exception:
        question = self.records.questions[self._row(index)]
        try:
            item = self.answerer.made(question, self.records.regions(question), self.sees)
        except ValueError as error:
            return ValueError(f"question {question.question_id}: {error}")
        target = answer_shares(question, self.answers) if self.shares else self.answers.targets(question)
        return item | {"question_id": question.question_id, "target": target}

    def _row(self, index: int) -> int:
        if self.seed is None:
            return index
        epoch = int(self._epoch)
        if epoch != self._drawn:
            draw = np.random.default_rng([self.seed, epoch])
            self._order = draw.permutation(len(self.records))
            if self.pictures is not None:
                self._order = side_by_side(self._order, self.pictures, self.together, draw)
            self._drawn = epoch
        return int(self._order[index])


def side_by_side(order: np.ndarray, pictures: np.ndarray, together: int, draw: np.random.Generator) -> np.ndarray:
    """A shuffled `order` of N questions such that up to `together` with the same number in `pictures` [N] follow each
    other, in groups that are shuffled."""
    by_picture = order[np.argsort(pictures[order], kind="stable")]
    same = pictures[by_picture]
    starts = np.flatnonzero(np.r_[True, same[1:] != same[:-1]])
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    groups = np.cumsum(within % together == 0) - 1
    return by_picture[np.argsort(draw.permutation(groups[-1] + 1)[groups], kind="stable")]


def _pictures(records: Records) -> np.ndarray:
    """The number of each question's first picture."""
    rows: dict[str, int] = {}
    return np.array([rows.setdefault(one.images[0], len(rows)) for one in records])


def collator(answerer: Answerer) -> Callable[[list[Mapping[str, Any]]], dict[str, Any]]:
    """Items to the network's arguments, `scores` [B, answers], `question_ids`, and `answered`: of how many questions an
    answer is known, which nobody then has to ask a device."""
    reader, size = answerer.reader, _size(answerer.answers)

    def collate(items: list[Mapping[str, Any]]) -> dict[str, Any]:
        batch = reader.collate(items)
        scores = dense_scores([item["target"] for item in items], size)
        return batch | {
            "scores": scores,
            "answered": int(scores.amax(1).gt(0).sum()),
            "question_ids": [item["question_id"] for item in items],
        }

    return collate


def _size(answers: AnswerVocabulary) -> int:
    return len(answers)
