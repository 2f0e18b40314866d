"""BLEU-1..4 (Papineni et al., 2002) with the closest reference length, as pycocoevalcap's `Bleu` computes it.

Captions are tokenized strings. What one caption contributes is kept apart (`BleuStatistics`): the score of a corpus is
that of the summed statistics, not the mean of the captions' scores.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from metrics.ngrams import MAX_ORDER, Ngram, count_ngrams

_SMALL, _TINY = 1e-9, 1e-15  # the original's smoothing: no division by zero, no root of a negative rounding error


class BleuStatistics(NamedTuple):
    """Clipped matches and candidate n-grams of each order, and the lengths that the brevity penalty compares."""

    correct: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference_length: int


class BleuReferences:
    """The references of one image, counted once and compared with any number of candidates."""

    def __init__(self, references: Sequence[str]) -> None:
        self.lengths: list[int] = []
        self.most: dict[Ngram, int] = {}  # the most often that one reference has each n-gram
        for reference in references:
            length, orders = count_ngrams(reference)
            self.lengths.append(length)
            for counts in orders:
                for ngram, count in counts.items():
                    if count > self.most.get(ngram, 0):
                        self.most[ngram] = count

    def compare(self, candidate: str) -> BleuStatistics:
        length, orders = count_ngrams(candidate)
        correct = [sum(min(n, self.most.get(ngram, 0)) for ngram, n in counts.items()) for counts in orders]
        total = tuple(max(0, length - order) for order in range(MAX_ORDER))
        closest = min((abs(reference - length), reference) for reference in self.lengths)[1]
        return BleuStatistics(tuple(correct), total, length, closest)


def bleu(statistics: Iterable[BleuStatistics]) -> list[float]:
    """BLEU-1..4 of all captions together; of a single one, its sentence score."""
    correct, total = [0] * MAX_ORDER, [0] * MAX_ORDER
    length = reference_length = 0
    for one in statistics:
        length += one.length
        reference_length += one.reference_length
        for order in range(MAX_ORDER):
            correct[order] += one.correct[order]
            total[order] += one.total[order]
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(MAX_ORDER):
        product *= (correct[order] + _TINY) / (total[order] + _SMALL)
        scores.append(product ** (1 / (order + 1)) * brevity)
    return scores
