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


def weigh(counts: Counts, weights: np.ndarray, captions: int) -> tuple[np.ndarray, np.ndarray]:
    """tf-idf weights of the rows of `counts`, and the norm of each of the captions' vectors."""
    weighted = counts.times * weights[counts.ngram]
    return weighted, np.sqrt(np.bincount(counts.caption, weighted**2, minlength=captions))


def length_penalty(lengths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What a similarity is multiplied by for captions of so many words each.

    The original measures length in pairs of words, so that captions of no and of one word are equally long.
    """
    apart = np.maximum(0, lengths - 1) - np.maximum(0, others - 1)
    return np.exp(-(apart**2) / (2 * SIGMA**2))


def cider_of(overlap: NgramOverlap, frequency: DocumentFrequency | None = None) -> list[float]:
    """CIDEr-D of each candidate against its references, on pycocoevalcap's scale (0 to 10).

    Document frequencies are those of the references (pycocoevalcap's CIDEr), or of a corpus where `frequency` is given.
    """
    candidate, reference, shift = overlap.pairs()
    similarity = np.zeros(len(candidate))
    for order in overlap.orders:
        if frequency is None:
            weights = idf(overlap.sets, order.documents)
        else:
            weights = idf(frequency.documents, frequency.of_each(order.names()))
        own, norms = weigh(order.candidates, weights, len(overlap.lengths))
        others, other_norms = weigh(order.references, weights, len(overlap.reference_lengths))
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
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequency: DocumentFrequency | None = None
) -> list[float]:
    """CIDEr-D of each candidate against its references, as `cider_of`; the corpus score is the mean."""
    return cider_of(NgramOverlap(candidates, references), frequency)
