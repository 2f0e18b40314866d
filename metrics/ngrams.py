"""n-grams of a tokenized caption, the common ground of BLEU and CIDEr."""

import sys
from collections.abc import Iterable

MAX_ORDER = 4  # both look at one to four words

Ngram = tuple[str, ...]


def _words(caption: str) -> list[str]:
    """The words, each one object however often it is said: tables of n-grams take less room and compare quicker."""
    return [sys.intern(word) for word in caption.split()]


def count_ngrams(caption: str) -> tuple[int, list[dict[Ngram, int]]]:
    """Length in words, and for one to `MAX_ORDER` words how often each n-gram of so many words occurs."""
    words = _words(caption)
    shifted = [words[start:] for start in range(MAX_ORDER)]
    orders: list[dict[Ngram, int]] = []
    for order in range(1, MAX_ORDER + 1):
        ngrams: list[Ngram] = list(zip(*shifted[:order], strict=False))  # as many as the shortest has words
        counts = dict.fromkeys(ngrams, 1)
        if len(counts) < len(ngrams):  # seldom: something is said twice
            counts = dict.fromkeys(ngrams, 0)
            for ngram in ngrams:
                counts[ngram] += 1
        orders.append(counts)
    return len(words), orders


def distinct_ngrams(captions: Iterable[str]) -> set[Ngram]:
    """The n-grams of one to `MAX_ORDER` words that any of the captions has."""
    found: set[Ngram] = set()
    for caption in captions:
        words = _words(caption)
        shifted = [words[start:] for start in range(MAX_ORDER)]
        for order in range(1, MAX_ORDER + 1):
            found.update(zip(*shifted[:order], strict=False))
    return found
