"""VCR's accuracies (arXiv:1811.10830): of answers, of reasons for the right answer, and of both together.

Shapes: N questions. A question counts in Q->AR where the most probable answer is right, and so is the most probable
reason among those that were read after the right answer.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

#: Question id -> what is right, 0 to 3.
Labels = Mapping[str, int]
#: Question id -> the probabilities of four choices.
Shares = Mapping[str, Sequence[float]]


class VcrScores(NamedTuple):
    """Shares, 0 to 1; None where nothing says."""

    answers: float | None
    reasons: float | None
    both: float | None

    def named(self) -> dict[str, float]:
        """By the names that VCR gives them, those that are known."""
        names = ("Q->A", "QA->R", "Q->AR")
        return {name: value for name, value in zip(names, self, strict=True) if value is not None}


def vcr_scores(
    answer_labels: Labels, reason_labels: Labels, answers: Shares | None, reasons: Shares | None
) -> VcrScores:
    """Of N questions; `reasons` are those read after the right answer.

    Raises ValueError for no questions and for one without probabilities.
    """
    first = None if answers is None else right(answer_labels, answers)
    second = None if reasons is None else right(reason_labels, reasons)
    both = None if first is None or second is None else float(np.mean(first & second))
    means = [None if found is None else float(found.mean()) for found in (first, second)]
    return VcrScores(means[0], means[1], both)


def right(labels: Labels, shares: Shares) -> np.ndarray:
    """[N] bool: whether the most probable choice is the right one; of equals the first."""
    if not labels:
        raise ValueError("no questions with a label: there is nothing to score")
    missing = [key for key in labels if key not in shares]
    if missing:
        raise ValueError(f"question {missing[0]} has no answer ({len(missing)} of {len(labels)}): answer every one")
    return np.array([int(np.argmax(shares[key])) == label for key, label in labels.items()])
