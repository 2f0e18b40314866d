"""CIDEr and CIDEr-D (Vedantam et al., 2015): tf-idf weighted n-gram similarity with the references.

What pycocoevalcap calls CIDEr is CIDEr-D: counts are clipped and lengths compared. So one function serves both, and the
reward of self-critical training as well; they differ in where document frequencies come from: the evaluated references
themselves, or a corpus (`DocumentFrequency`). Captions are tokenized strings.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.ngrams import MAX_ORDER, CountedCaptions, Counts, Ngram
from metrics.overlap import NgramOverlap

SIGMA = 6.0  # words of length difference that the penalty forgives


@dataclass(frozen=True, slots=True)
class DocumentFrequency:
    """In how many documents (images, with all their references) of a corpus each n-gram occurs."""

    documents: float
    counts: Mapping[Ngram, float]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> "DocumentFrequency":
        """Count a corpus: the references of each image, tokenized."""
        corpus = list(references)
        document = np.repeat(np.arange(len(corpus)), np.fromiter(map(len, corpus), np.int64, len(corpus)))
        found: dict[Ngram, float] = {}
        for order in CountedCaptions([text for of_image in corpus for text in of_image]).orders():
            found.update(zip(order.names(), order.documents(order.counts, document).tolist(), strict=True))
        return cls(float(len(corpus)), found)

    def of_each(self, ngrams: Iterable[Ngram]) -> np.ndarray:
        """The count of each n-gram, 0 for one never seen."""
        return np.fromiter((self.counts.get(ngram, 0) for ngram in ngrams), float)


def idf(documents: float, counts: np.ndarray) -> np.ndarray:
    """Inverse document frequency ln(documents / count) of n-grams; one never seen counts as one seen once."""
    return (math.log(documents) if documents else 0.0) - np.log(np.maximum(1.0, counts))


def weigh(
    counts: Counts, weights: np.ndarray, captions: int, factors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """tf-idf weights of the rows of `counts`, times `factors` [rows], and the norm of each of the captions' vectors."""
    weighted = counts.times * weights[counts.ngram]
    if factors is not None:
        weighted = weighted * factors
    return weighted, np.sqrt(np.bincount(counts.caption, weighted**2, minlength=captions))


def length_penalty(lengths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What a similarity is multiplied by for captions of so many words each.

    The original measures length in pairs of words, so that captions of no and of one word are equally long.
    """
    apart = np.maximum(0, lengths - 1) - np.maximum(0, others - 1)
    return np.exp(-(apart**2) / (2 * SIGMA**2))


def cider_of(
    overlap: NgramOverlap, frequency: DocumentFrequency | None = None, common_weight: float = 1.0
) -> list[float]:
    """CIDEr-D of each candidate against its references, on pycocoevalcap's scale (0 to 10).

    Document frequencies are those of the references (pycocoevalcap's CIDEr), or of a corpus where `frequency` is given.

    With other captions in `overlap`, say of the same image in other styles, n-grams that set the references apart from
    them can count more. The weight of an n-gram g is then, in candidates and references alike,

        tf(g) * idf(g) * common_weight    where g is in a reference of the set and in one of its other captions,
        tf(g) * idf(g)                    elsewhere,

    and the rest stays as it is: cosines of these vectors, counts clipped, lengths compared. So one reference is enough
    for it to matter, what only the other captions say costs what any wrong n-gram does, and a set without other
    captions has plain CIDEr-D. With 0 a reference all of whose n-grams are in the others is like no candidate.
    """
    candidate, reference, shift = overlap.pairs()
    similarity = np.zeros(len(candidate))
    for order in overlap.orders:
        if frequency is None:
            weights = idf(overlap.sets, order.documents)
        else:
            weights = idf(frequency.documents, frequency.of_each(order.names()))
        factors = (np.where(rows, common_weight, 1.0) for rows in order.common) if order.common else (None, None)
        own_factors, other_factors = factors
        own, norms = weigh(order.candidates, weights, len(overlap.lengths), own_factors)
        others, other_norms = weigh(order.references, weights, len(overlap.reference_lengths), other_factors)
        said = order.candidates.caption[order.own]
        pair = order.references.caption[order.other] + shift[said]
        product = np.minimum(own[order.own], others[order.other]) * others[order.other]
        products = np.bincount(pair, product, minlength=len(similarity))
        norm = norms[candidate] * other_norms[reference]
        similarity += np.divide(products, norm, out=np.zeros_like(norm), where=norm != 0)
    similarity *= length_penalty(overlap.lengths[candidate], overlap.reference_lengths[reference])
    total = np.bincount(candidate, similarity, minlength=len(overlap.lengths))
    return (10.0 / MAX_ORDER * total / overlap.set_sizes[overlap.set_of]).tolist()


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    frequency: DocumentFrequency | None = None,
    others: Sequence[Sequence[str]] | None = None,
    common_weight: float = 1.0,
) -> list[float]:
    """CIDEr-D of each candidate against its references, as `cider_of`; the corpus score is the mean.

    `others`: of each candidate, captions whose n-grams count `common_weight` in its references.
    """
    return cider_of(NgramOverlap(candidates, references, others=others), frequency, common_weight)
