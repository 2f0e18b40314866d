"""Rewards that compare a candidate with references: the functions that evaluation scores with, end word included."""

import math
from collections.abc import Sequence
from functools import lru_cache

from metrics.bleu import BleuReferences, BleuStatistics
from metrics.cider import CiderD, DocumentFrequency
from metrics.rouge import rouge_l
from rewards.base import Reward, RewardBatch, register
from rewards.resources import Resources

_KEPT = 100_000  # images whose counted references stay in memory


class TextReward:
    """A score against references. Captions in other styles count `soft_weight`, those of the asked style the rest."""

    def __init__(self, soft_weight: float = 0.0):
        self.soft_weight = soft_weight

    def score(self, candidate: str, references: tuple[str, ...]) -> float:
        raise NotImplementedError

    def __call__(self, batch: RewardBatch) -> list[list[float]]:
        groups = zip(batch.tokens, batch.references, batch.soft_references, strict=True)
        return [[self._mixed(one, tuple(own), tuple(soft)) for one in group] for group, own, soft in groups]

    def _mixed(self, candidate: str, own: tuple[str, ...], soft: tuple[str, ...]) -> float:
        score = self.score(candidate, own)
        if not soft or not self.soft_weight:
            return score
        return (1 - self.soft_weight) * score + self.soft_weight * self.score(candidate, soft)


class CiderDReward(TextReward):
    """CIDEr-D (0 to 10) with the document frequencies of the training corpus."""

    def __init__(self, table: DocumentFrequency, soft_weight: float = 0.0):
        super().__init__(soft_weight)
        self.cider_d = CiderD(table, keep=_KEPT)

    def score(self, candidate: str, references: tuple[str, ...]) -> float:
        return self.cider_d.references(references).score(candidate)


class BleuReward(TextReward):
    """BLEU-4 of one caption (0 to 1), one added to the counts of two words and more (Lin and Och, 2004): few captions
    share four words with a reference, and all others would score 0."""

    def __init__(self, soft_weight: float = 0.0):
        super().__init__(soft_weight)
        self.counted = lru_cache(maxsize=_KEPT)(BleuReferences)

    def score(self, candidate: str, references: tuple[str, ...]) -> float:
        return smoothed_bleu4(self.counted(references).compare(candidate))


class RougeReward(TextReward):
    """ROUGE-L (0 to 1)."""

    def score(self, candidate: str, references: tuple[str, ...]) -> float:
        return rouge_l(candidate, references)


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
    return CiderDReward(resources.document_frequency, resources.soft_weight)


@register("bleu-4")
def _bleu4(resources: Resources) -> Reward:
    return BleuReward(resources.soft_weight)


@register("rouge-l")
def _rouge_l(resources: Resources) -> Reward:
    return RougeReward(resources.soft_weight)
