"""Rewards that compare a candidate with references: the functions that evaluation scores with, end word included."""

import math
from collections.abc import Sequence

import numpy as np

from metrics.bleu import BleuStatistics, bleu_statistics
from metrics.cider import DocumentFrequency, cider_of
from metrics.overlap import NgramOverlap
from metrics.rouge import rouge_l
from rewards.base import Reward, RewardBatch, register
from rewards.resources import Resources


class TextReward:
    """A score against references. Captions in other styles count `soft_weight`, those of the asked style the rest."""

    def __init__(self, soft_weight: float = 0.0):
        self.soft_weight = soft_weight

    def score(self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
        """Tokenized candidates [M][K] against the references [M] of their group, at least one each: [M, K]."""
        raise NotImplementedError

    def own_score(self, batch: RewardBatch) -> np.ndarray:
        """The score against the references of the asked style: [M, K]."""
        return self.score(batch.tokens, batch.references)

    def __call__(self, batch: RewardBatch) -> list[list[float]]:
        scores = self.own_score(batch)
        rows = [row for row, soft in enumerate(batch.soft_references) if soft] if self.soft_weight else []
        if rows:
            soft = self.score([batch.tokens[row] for row in rows], [batch.soft_references[row] for row in rows])
            scores[rows] = (1 - self.soft_weight) * scores[rows] + self.soft_weight * soft
        return scores.tolist()


def overlap_of(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    others: Sequence[Sequence[str]] | None = None,
) -> NgramOverlap:
    """Groups of candidates [M][K] beside the references [M] of each, and `others` [M] that are no references."""
    groups = [row for row, group in enumerate(candidates) for _ in group]
    return NgramOverlap([text for group in candidates for text in group], references, groups, others)


class CiderDReward(TextReward):
    """CIDEr-D (0 to 10) with the document frequencies of the training corpus.

    n-grams of the asked style's references that the image's captions in other styles have as well count
    `shared_weight`: see `metrics.cider.cider_of`. Below 1 it is the words of the style that are paid for most.
    """

    def __init__(self, table: DocumentFrequency, soft_weight: float = 0.0, shared_weight: float = 1.0):
        super().__init__(soft_weight)
        self.table = table
        self.shared_weight = shared_weight

    def own_score(self, batch: RewardBatch) -> np.ndarray:
        if self.shared_weight == 1:
            return super().own_score(batch)
        overlap = overlap_of(batch.tokens, batch.references, batch.soft_references)
        return np.reshape(cider_of(overlap, self.table, self.shared_weight), (len(batch.tokens), -1))

    def score(self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
        return np.reshape(cider_of(overlap_of(candidates, references), self.table), (len(candidates), -1))


class BleuReward(TextReward):
    """BLEU-4 of one caption (0 to 1), one added to the counts of two words and more (Lin and Och, 2004): few captions
    share four words with a reference, and all others would score 0."""

    def score(self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
        statistics = bleu_statistics(overlap_of(candidates, references))
        return np.reshape(list(map(smoothed_bleu4, statistics)), (len(candidates), -1))


class RougeReward(TextReward):
    """ROUGE-L (0 to 1)."""

    def score(self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
        groups = zip(candidates, references, strict=True)
        return np.array([[rouge_l(candidate, own) for candidate in group] for group, own in groups])


def smoothed_bleu4(statistics: BleuStatistics) -> float:
    """BLEU-4 of one caption, smoothed; 0 where no word is right."""
    if not statistics.correct[0]:
        return 0.0
    precisions = [statistics.correct[0] / statistics.total[0]]
    counts: Sequence[tuple[int, int]] = list(zip(statistics.correct, statistics.total, strict=True))[1:]
    precisions += [(correct + 1) / (total + 1) for correct, total in counts]
    brevity = min(1.0, math.exp(1 - statistics.reference_length / statistics.length))
    return brevity * math.prod(precisions) ** (1 / len(precisions))


@register("cider-d")
def _cider_d(resources: Resources) -> Reward:
    return CiderDReward(resources.document_frequency, resources.soft_weight, resources.shared_weight)


@register("bleu-4")
def _bleu4(resources: Resources) -> Reward:
    return BleuReward(resources.soft_weight)


@register("rouge-l")
def _rouge_l(resources: Resources) -> Reward:
    return RougeReward(resources.soft_weight)
