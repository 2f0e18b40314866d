"""BLEU-1..4 (Papineni et al., 2002) with the closest reference length, as pycocoevalcap's `Bleu` computes it.

Captions are tokenized strings. What one caption contributes is kept apart (`BleuStatistics`): the score of a corpus is
that of the summed statistics, not the mean of the captions' scores.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from metrics.ngrams import MAX_ORDER
from metrics.overlap import NgramOverlap

_SMALL, _TINY = 1e-9, 1e-15  # the original's smoothing: no division by zero, no root of a negative rounding error


class BleuStatistics(NamedTuple):
    """Clipped matches and candidate n-grams of each order, and the lengths that the brevity penalty compares."""

    correct: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference_length: int


def bleu_statistics(overlap: NgramOverlap) -> list[BleuStatistics]:
    """What each candidate contributes."""
    correct = []
    for order in overlap.orders:
        own, other = order.candidates.times[order.own], order.references.times[order.other]
        most = np.zeros(len(order.candidates.times), dtype=np.int64)  # that one reference has of the n-gram
        np.maximum.at(most, order.own, np.minimum(own, other))
        correct.append(np.bincount(order.candidates.caption, most, minlength=len(overlap.lengths)).astype(int).tolist())
    candidate, reference, _ = overlap.pairs()
    lengths = overlap.reference_lengths[reference]
    # the closest length, the shorter of two as close: the smallest in this order
    by_closeness = np.lexsort((lengths, np.abs(lengths - overlap.lengths[candidate]), candidate))
    closest = lengths[by_closeness[np.unique(candidate[by_closeness], return_index=True)[1]]].tolist()
    return [
        BleuStatistics(tuple(matches), tuple(max(0, length - order) for order in range(MAX_ORDER)), length, nearest)
        for length, nearest, *matches in zip(overlap.lengths.tolist(), closest, *correct, strict=True)
    ]


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
