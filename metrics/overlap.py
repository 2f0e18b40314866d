"""Candidates beside the references that they are compared with: which n-grams they share.

BLEU and CIDEr both start here, so that an evaluation counts its captions once. Captions are tokenized strings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.ngrams import CountedCaptions, Counts, Ngram


@dataclass(frozen=True, slots=True)
class OrderOverlap:
    """The n-grams of one order.

    Attributes:
        candidates, references: their counts.
        own, other: int64 [shared], rows of `candidates` and of `references` that are of the same n-gram, where the
            candidate is compared with the reference; in the order of `own`.
        documents: int64 [n-grams], in how many sets of references each n-gram occurs.
        names: gives the words of each n-gram.
        common: bool, rows of `candidates` and rows of `references` whose n-gram is in the references of their set and
            in its other captions as well; None where there are no other captions.
    """

    candidates: Counts
    references: Counts
    own: np.ndarray
    other: np.ndarray
    documents: np.ndarray
    names: Callable[[], list[Ngram]]
    common: tuple[np.ndarray, np.ndarray] | None = None


class NgramOverlap:
    """What candidates share with their references.

    Attributes:
        sets: how many sets of references there are; a set is what an image has.
        set_of: int64 [candidates], the set that each candidate is compared with.
        set_sizes: int64 [sets].
        lengths, reference_lengths: int64 [candidates] and [references, of all sets in turn], in words.
        orders: for n-grams of one word, of two, and so on.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        set_of: Sequence[int] | None = None,
        others: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Count candidates and sets of at least one reference each; candidate i is for set i, or `set_of[i]`.

        `others`: captions [sets][any number] that are no references, to tell which n-grams references share with them.
        """
        assert set_of is not None or len(candidates) == len(references), "every candidate needs its references"
        assert all(references), "a set of references is empty"
        number = len(candidates)
        self.sets = len(references)
        self.set_of = np.arange(number) if set_of is None else np.asarray(set_of, dtype=np.int64)
        self.set_sizes = np.fromiter(map(len, references), np.int64, self.sets)
        total = number + int(self.set_sizes.sum())
        rest = [text for of_set in others or () for text in of_set]
        counted = CountedCaptions([*candidates, *(text for of_set in references for text in of_set), *rest])
        self.lengths, self.reference_lengths = counted.lengths[:number], counted.lengths[number:total]
        set_of_reference = np.repeat(np.arange(self.sets), self.set_sizes)
        set_of_other = np.repeat(np.arange(self.sets), [len(of_set) for of_set in others]) if others else None
        self.orders: list[OrderOverlap] = []
        for order in counted.orders():
            known, elsewhere = order.counts.split(total)
            own, other = known.split(number)
            # an n-gram of a set
            of_own = self.set_of[own.caption] * order.different + own.ngram
            of_other = set_of_reference[other.caption] * order.different + other.ngram
            common = None
            if set_of_other is not None:
                both = np.intersect1d(of_other, set_of_other[elsewhere.caption] * order.different + elsewhere.ngram)
                common = np.isin(of_own, both), np.isin(of_other, both)
            documents = order.documents(other, set_of_reference)
            self.orders.append(OrderOverlap(own, other, *_equal(of_own, of_other), documents, order.names, common))

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each candidate with each of its references.

        Returns:
            Candidate and reference of each pair, int64 [pairs], in the order of candidates; and int64 [candidates],
            what added to a reference gives the pair of the two.
        """
        sizes = self.set_sizes[self.set_of]
        candidate = np.repeat(np.arange(len(sizes)), sizes)
        first_pair = np.cumsum(sizes) - sizes
        first_reference = (np.cumsum(self.set_sizes) - self.set_sizes)[self.set_of]
        shift = first_pair - first_reference
        return candidate, np.arange(len(candidate)) - shift[candidate], shift


def _equal(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of equal numbers in both, every combination, in the order of `own`."""
    sorting = np.argsort(other, kind="stable")
    ordered = other[sorting]
    low, high = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    number = high - low
    place = np.repeat(np.arange(len(own)), number)
    start = np.repeat(low - np.cumsum(number) + number, number)
    return place, sorting[start + np.arange(len(place))]
