"""n-grams of a tokenized caption, the common ground of BLEU and CIDEr."""

from collections.abc import Iterable

MAX_ORDER = 4  # both look at one to four words

Ngram = tuple[str, ...]


def count_ngrams(caption: str) -> tuple[int, list[dict[Ngram, int]]]:
    """Length in words, and for one to `MAX_ORDER` words how often each n-gram of so many words occurs."""
    words = caption.split()
    shifted = [words[start:] for start in range(MAX_ORDER)]
    orders: list[dict[Ngram, int]] = []
    for order in range(1, MAX_ORDER + 1):
        counts: dict[Ngram, int] = {}
        for ngram in zip(*shifted[:order], strict=False):  # as long as the shortest
            counts[ngram] = counts.get(ngram, 0) + 1
        orders.append(counts)
    return len(words), orders


def distinct_ngrams(captions: Iterable[str]) -> set[Ngram]:
    """The n-grams of one to `MAX_ORDER` words that any of the captions has."""
    found: set[Ngram] = set()
    for caption in captions:
        words = caption.split()
        shifted = [words[start:] for start in range(MAX_ORDER)]
        for order in range(1, MAX_ORDER + 1):
            found.update(zip(*shifted[:order], strict=False))
    return found
