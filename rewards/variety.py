"""Rewards of captions that say what other captions do not: penalties, 0 for a caption that is like no other."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from metrics.diversity import ngrams_of
from metrics.ngrams import Ngram
from rewards.base import END_WORD, Reward, RewardBatch, register
from rewards.document_frequency import tokenize_references
from rewards.resources import Resources

_SIZE = 4  # words of a phrase: shorter ones every caption shares
_PAIR = 2


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


class OveruseReward:
    """Minus the most by which one pair of words of a caption is oftener said, in the batch's captions of the style for
    *other* images, than people say it in that style; 0 where people say each pair as often.

    A model that is paid for style finds two words that are enough of it and ends every caption with them. They cost
    close to 1 here, and a pair such as "in a" next to nothing.

    Args:
        people: style -> pair -> share of people's captions that have it.
    """

    def __init__(self, people: Mapping[str, Mapping[Ngram, float]]):
        self.people = people

    def __call__(self, batch: RewardBatch) -> list[list[float]]:
        groups = [pair_shares(group) for group in batch.tokens]
        total: dict[str, dict[Ngram, float]] = defaultdict(lambda: defaultdict(float))
        for style, shares in zip(batch.styles, groups, strict=True):
            for pair, share in shares.items():
                total[style][pair] += share
        of_style = Counter(batch.styles)
        result = []
        for style, shares, group in zip(batch.styles, groups, batch.tokens, strict=True):
            others, people = max(1, of_style[style] - 1), self.people.get(style, {})
            excess = {pair: (total[style][pair] - own) / others - people.get(pair, 0.0) for pair, own in shares.items()}
            result.append([-max((0.0, *(excess[pair] for pair in ngrams_of(text, _PAIR)))) for text in group])
        return result


def pair_shares(captions: Iterable[str]) -> dict[Ngram, float]:
    """Pair of words -> share of the tokenized captions that have it."""
    each = [set(ngrams_of(text, _PAIR)) for text in captions]
    found = Counter(pair for pairs in each for pair in pairs)
    return {pair: count / len(each) for pair, count in found.items()}


@register("overuse")
def _overuse(resources: Resources) -> Reward:
    captions: dict[str, list[str]] = defaultdict(list)
    for row in resources.split:
        captions[row.style].append(row.caption)
    tokenized = tokenize_references(captions.values(), end_word=END_WORD, tokenizer=resources.tokenizer)
    return OveruseReward({style: pair_shares(texts) for style, texts in zip(captions, tokenized, strict=True)})


@register("variety")
def _variety(resources: Resources) -> Reward:
    return variety
