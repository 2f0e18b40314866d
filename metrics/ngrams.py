"""n-grams of tokenized captions, the common ground of BLEU and CIDEr.

Captions are counted together, in arrays: each n-gram of one to `MAX_ORDER` words has a number, and what occurs where is
a row. So a split is scored in a few passes over numbers, and the thousands of candidates of a training run likewise.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

import numpy as np

MAX_ORDER = 4  # both look at one to four words

Ngram = tuple[str, ...]


class Counts(NamedTuple):
    """How often captions have n-grams: a row, of int32, for each caption and each n-gram that it has.

    Rows are in ascending order of `caption`, and of `ngram` within one.
    """

    caption: np.ndarray
    ngram: np.ndarray
    times: np.ndarray

    def split(self, captions: int) -> tuple["Counts", "Counts"]:
        """The counts of the first so many captions, and those of the others, numbered from 0."""
        row = np.searchsorted(self.caption, captions)
        others = Counts(*(column[row:] for column in self))
        return Counts(*(column[:row] for column in self)), others._replace(caption=others.caption - captions)


class CountedCaptions:
    """Captions in words, whose n-grams are counted one order after the other.

    Attributes:
        lengths: int64 [captions], in words.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        # one object for each word, however often it is said, for the tables that keep n-grams
        words = [list(map(sys.intern, caption.split())) for caption in captions]
        self.lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._words = list(chain.from_iterable(words))

    def orders(self) -> Iterator["CountedOrder"]:
        """The counts of n-grams of one word, of two, and so on up to `MAX_ORDER`."""
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        word = np.fromiter(map(numbers.__getitem__, self._words), np.int64, len(self._words))
        place = np.arange(len(word))  # of an n-gram's first word
        caption = np.repeat(np.arange(len(self.lengths)), self.lengths)
        left = np.repeat(np.cumsum(self.lengths), self.lengths) - place  # words from here to the caption's end
        ngram = word
        for order in range(1, MAX_ORDER + 1):
            if order > 1:
                longer = left[place] >= order
                place = place[longer]
                code = ngram[longer] * len(numbers) + word[place + order - 1]
                ngram = np.unique(code, return_inverse=True)[1]
            yield CountedOrder(self._words, order, place, ngram, caption[place])


class CountedOrder:
    """The n-grams of `order` words.

    Attributes:
        order: words of an n-gram.
        different: how many n-grams there are; they are numbered from 0.
        counts: of all captions.
    """

    def __init__(self, words: list[str], order: int, place: np.ndarray, ngram: np.ndarray, caption: np.ndarray) -> None:
        self.order = order
        self.different = int(ngram.max()) + 1 if len(ngram) else 0
        rows, times = np.unique(caption * self.different + ngram, return_counts=True)
        columns = *np.divmod(rows, max(1, self.different)), times
        self.counts = Counts(*(column.astype(np.int32) for column in columns))
        self._words = words
        self._place = np.zeros(self.different, dtype=np.int64)  # of each n-gram, any one
        self._place[ngram] = place

    def names(self) -> list[Ngram]:
        """The words of each n-gram."""
        return [tuple(self._words[start : start + self.order]) for start in self._place.tolist()]

    def documents(self, counts: Counts, document: np.ndarray) -> np.ndarray:
        """In how many documents each n-gram occurs, int64 [different]; `document` [captions of `counts`]."""
        rows = np.unique(document[counts.caption] * self.different + counts.ngram)
        return np.bincount(rows % max(1, self.different), minlength=self.different)
