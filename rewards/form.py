"""Rewards of a caption's form: penalties, 0 for a caption that is as it should be."""

from metrics.diversity import repeated_share
from rewards.base import Reward, RewardBatch, register
from rewards.resources import Resources

_SHORT, _LONG = 0.5, 1.5  # times the length of the shortest and of the longest reference that are forgiven


def ending(batch: RewardBatch) -> list[list[float]]:
    """-1 for a caption that never ended; else minus the words by which it is shorter than half the shortest reference
    or longer than one and a half times the longest, as a share of that reference; never below -1."""
    result = []
    for candidates, tokens, references in zip(batch.candidates, batch.tokens, batch.references, strict=True):
        lengths = [len(reference.split()) for reference in references]
        least, most = _SHORT * min(lengths), _LONG * max(lengths)
        row = []
        for candidate, text in zip(candidates, tokens, strict=True):
            length = len(text.split())
            excess = max(0.0, (least - length) / min(lengths), (length - most) / max(lengths))
            row.append(-min(1.0, excess) if candidate.ended else -1.0)
        result.append(row)
    return result


def repetition(batch: RewardBatch) -> list[list[float]]:
    """Minus the share of a caption's pairs of words that it has said before; one word may well occur twice."""
    return [[-repeated_share(text) for text in group] for group in batch.tokens]


@register("ending")
def _ending(resources: Resources) -> Reward:
    return ending


@register("repetition")
def _repetition(resources: Resources) -> Reward:
    return repetition
