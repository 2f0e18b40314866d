"""Scores by group, the answers that need no picture (the most frequent of a kind), and intervals.

Shapes: N questions, C clusters (pictures), R draws.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of an interval
_CHUNK = 100  # draws at a time


class Mean(NamedTuple):
    """A mean score and of how many questions."""

    score: float
    questions: int


class Interval(NamedTuple):
    """The ends of a 95% interval."""

    low: float
    high: float


def by_group(scores: Sequence[float], groups: Sequence[str | Iterable[str]]) -> dict[str, Mean]:
    """Group -> mean score of its questions, by name. A question with several groups counts in each.

    Raises ValueError for lists of different lengths.
    """
    if len(scores) != len(groups):
        raise ValueError(f"{len(scores)} scores and {len(groups)} groups: give one of each for every question")
    found: dict[str, list[float]] = defaultdict(list)
    for score, names in zip(scores, groups, strict=True):
        for name in (names,) if isinstance(names, str) else names:
            found[name].append(score)
    return {name: Mean(sum(values) / len(values), len(values)) for name, values in sorted(found.items())}


def majority(answers: Iterable[str], groups: Iterable[Hashable] | None = None) -> dict[Hashable, str]:
    """Group -> its most frequent answer; under None that of all. Of two as frequent, the first to occur.

    Raises ValueError for no answers and lists of different lengths.
    """
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    answers = list(answers)
    if not answers:
        raise ValueError("no answers to choose the most frequent from: give those of the training split")
    if groups is not None:
        for answer, group in zip(answers, groups, strict=True):
            counts[group][answer] += 1
    counts[None].update(answers)
    return {group: found.most_common(1)[0][0] for group, found in counts.items()}


def majority_predictions(table: Mapping[Hashable, str], groups: Iterable[Hashable]) -> list[str]:
    """The most frequent answer of each question's group, that of all where the group is new."""
    return [table.get(group, table[None]) for group in groups]


def soft_accuracy(predictions: Sequence[str], labels: Sequence[Mapping[str, float]]) -> float:
    """Mean of what the labels give the predicted answers, 0 where they do not name it: LXMERT's own evaluator of VQA
    and GQA. Not the official VQA accuracy: answers outside the labels' vocabulary are lost.

    Raises ValueError for no predictions and lists of different lengths.
    """
    if not predictions or len(predictions) != len(labels):
        raise ValueError(
            f"{len(predictions)} predictions and {len(labels)} labels: give one of each for every question"
        )
    return sum(label.get(answer, 0.0) for answer, label in zip(predictions, labels, strict=True)) / len(predictions)


def interval(scores: Sequence[float], clusters: Sequence[Hashable], *, draws: int = 1000, seed: int = 1) -> Interval:
    """The bootstrap interval of the mean of N scores; whole clusters are drawn (questions of one picture share its
    luck). For a difference of two systems give the differences of their scores.

    Raises ValueError for no scores and lists of different lengths.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(values)} scores and {len(clusters)} clusters: give one of each for every question")
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    member = np.array([numbers[cluster] for cluster in clusters])
    sums, counts = np.bincount(member, values), np.bincount(member)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, _CHUNK):
        drawn = rng.integers(len(sums), size=(min(_CHUNK, draws - start), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(low), float(high))
