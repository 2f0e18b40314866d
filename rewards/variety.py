"""Rewards of captions that say what other captions do not: penalties, 0 for a caption that is like no other."""

from collections import Counter, defaultdict

from metrics.diversity import ngrams_of
from metrics.ngrams import Ngram
from rewards.base import Reward, RewardBatch, register
from rewards.resources import Resources

_SIZE = 4  # words of a phrase: shorter ones every caption shares


def variety(batch: RewardBatch) -> list[list[float]]:
    """Minus the mean, over a caption's phrases of four words, of the share of the batch's *other* images whose
    candidates say the phrase too. Stock phrases cost most; a batch of one image costs nothing."""
    said: dict[str, set[Ngram]] = defaultdict(set)
    for image, group in zip(batch.images, batch.tokens, strict=True):
        said[image].update(phrase for text in group for phrase in ngrams_of(text, _SIZE))
    images_with = Counter(phrase for phrases in said.values() for phrase in phrases)
    others = max(1, len(said) - 1)
    return [[-_shared(text, images_with, others) for text in group] for group in batch.tokens]


def _shared(text: str, images_with: Counter[Ngram], others: int) -> float:
    phrases = ngrams_of(text, _SIZE)
    return sum(images_with[phrase] - 1 for phrase in phrases) / (len(phrases) * others) if phrases else 0.0


@register("variety")
def _variety(resources: Resources) -> Reward:
    return variety
