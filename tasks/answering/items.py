"""What an answerer learns from and is asked: questions as items, each prepared by a loader's worker."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from data.questions import AnswerVocabulary
from preprocessors.questions import Sees, dense_scores, shown
from tasks.answering.models import Answerer
from tasks.answering.records import Records


class QuestionItems:
    """Items of all questions; in an order of the epoch's own where there is a `seed`. The error in place of one whose
    features cannot be read."""

    def __init__(self, records: Records, answerer: Answerer, sees: Sees, seed: int | None = None) -> None:
        self.records = records
        self.reader = answerer.reader
        self.answers = answerer.answers
        self.sees = sees
        self.seed = seed
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
            text, images = shown(question.text, self.records.regions(question), self.sees)
            item = self.reader(text, images)
        except ValueError as error:
            return ValueError(f"question {question.question_id}: {error}")
        return item | {"question_id": question.question_id, "target": self.answers.targets(question)}

    def _row(self, index: int) -> int:
        if self.seed is None:
            return index
        epoch = int(self._epoch)
        if epoch != self._drawn:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.records))
            self._drawn = epoch
        return int(self._order[index])


def collator(answerer: Answerer) -> Callable[[list[Mapping[str, Any]]], dict[str, Any]]:
    """Items to the network's arguments, `scores` [B, answers] and `question_ids`."""
    reader, size = answerer.reader, _size(answerer.answers)

    def collate(items: list[Mapping[str, Any]]) -> dict[str, Any]:
        batch = reader.collate(items)
        scores = dense_scores([item["target"] for item in items], size)
        return batch | {"scores": scores, "question_ids": [item["question_id"] for item in items]}

    return collate


def _size(answers: AnswerVocabulary) -> int:
    return len(answers)
