"""ROUGE-L (Lin, 2004): the F-measure of the longest common subsequence, as pycocoevalcap's `Rouge` computes it."""

from collections.abc import Sequence

BETA = 1.2  # recall counts more than precision


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """ROUGE-L of one tokenized caption: best precision and best recall, perhaps of different references.

    Words are what single spaces part, so that an empty caption is one empty word, as in the original.
    """
    words = candidate.split(" ")
    places = _places(words)
    precision = recall = 0.0
    for reference in references:
        other = reference.split(" ")
        common = _common(places, len(words), other)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(other))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(words: Sequence[str], other: Sequence[str]) -> int:
    """How many words both have in the same order, with gaps."""
    return _common(_places(words), len(words), other)


def _places(words: Sequence[str]) -> dict[str, int]:
    """Where each word stands, as bits."""
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    return places


def _common(places: dict[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence, all places of a word at once as bits (Hyyrö, 2004)."""
    unmatched = full = (1 << length) - 1
    for word in other:
        matching = unmatched & places.get(word, 0)
        unmatched = ((unmatched + matching) | (unmatched - matching)) & full
    return length - unmatched.bit_count()
