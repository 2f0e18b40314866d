"""CIDEr and CIDEr-D (Vedantam et al., 2015): tf-idf weighted n-gram similarity with the references.

What pycocoevalcap calls CIDEr is CIDEr-D: counts are clipped and lengths compared. So one function serves both, and the
reward of self-critical training as well; they differ in where document frequencies come from: the evaluated references
themselves, or a corpus (`DocumentFrequency`). Captions are tokenized strings.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metrics.ngrams import MAX_ORDER, Ngram, count_ngrams, distinct_ngrams

SIGMA = 6.0  # words of length difference that the penalty forgives


@dataclass(frozen=True, slots=True)
class DocumentFrequency:
    """In how many documents (images, with all their references) of a corpus each n-gram occurs."""

    documents: float
    counts: Mapping[Ngram, float]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> "DocumentFrequency":
        """Count a corpus: the references of each image, tokenized."""
        counts: Counter[Ngram] = Counter()
        documents = 0
        for of_image in references:
            documents += 1
            counts.update(distinct_ngrams(of_image))
        return cls(float(documents), dict(counts))

    def weights(self) -> tuple[dict[Ngram, float], float]:
        """Inverse document frequency ln(documents / count) of each n-gram, and that of an n-gram never seen."""
        unseen = math.log(self.documents) if self.documents else 0.0
        return {ngram: unseen - math.log(max(1.0, count)) for ngram, count in self.counts.items()}, unseen


class CiderReferences:
    """The tf-idf vectors of one image's references, made once and compared with any number of candidates.

    It is not changed by scoring, so threads may share it.
    """

    __slots__ = ("_hits", "_lengths", "_norms", "_unseen", "_weights")

    def __init__(self, references: Sequence[str], weights: Mapping[Ngram, float], unseen: float) -> None:
        self._weights, self._unseen = weights, unseen
        self._lengths: list[int] = []
        self._norms: list[list[float]] = []
        self._hits: dict[Ngram, list[tuple[int, float]]] = {}  # n-gram -> (reference, its weight there)
        for row, reference in enumerate(references):
            length, orders = count_ngrams(reference)
            norms = []
            for counts in orders:
                square = 0.0
                for ngram, count in counts.items():
                    weight = count * weights.get(ngram, unseen)
                    square += weight * weight
                    self._hits.setdefault(ngram, []).append((row, weight))
                norms.append(math.sqrt(square))
            self._norms.append(norms)
            # The original measures length in pairs of words, so that captions of no and of one word are equally long.
            self._lengths.append(max(0, length - 1))

    def score(self, candidate: str) -> float:
        """CIDEr-D of a candidate, on pycocoevalcap's scale (0 to 10)."""
        length, orders = count_ngrams(candidate)
        weights, unseen, hits = self._weights, self._unseen, self._hits
        similarities = [0.0] * len(self._lengths)
        for order, counts in enumerate(orders):
            square, products = 0.0, [0.0] * len(self._lengths)
            for ngram, count in counts.items():
                weight = count * weights.get(ngram, unseen)
                square += weight * weight
                if ngram in hits:
                    for row, other in hits[ngram]:
                        products[row] += (weight if weight < other else other) * other
            norm = math.sqrt(square)
            for row, product in enumerate(products):
                if product:
                    similarities[row] += product / ((norm * self._norms[row][order]) or 1.0)
        apart = [max(0, length - 1) - other for other in self._lengths]
        total = sum(
            similarity * math.exp(-(difference**2) / (2 * SIGMA**2))
            for similarity, difference in zip(similarities, apart, strict=True)
        )
        return 10.0 * total / MAX_ORDER / len(self._lengths)


def cider(
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequency: DocumentFrequency | None = None
) -> list[float]:
    """CIDEr-D of each candidate against its references; the corpus score is the mean.

    Document frequencies are those of `references` (pycocoevalcap's CIDEr), or of a corpus where `frequency` is given.
    """
    weights, unseen = (frequency or DocumentFrequency.of(references)).weights()
    return [
        CiderReferences(of_image, weights, unseen).score(candidate)
        for candidate, of_image in zip(candidates, references, strict=True)
    ]


class CiderD:
    """CIDEr-D over a corpus table, for many rounds of scoring: weights are computed once, references once an image.

    `keep` images' vectors stay in memory; the oldest leave first. Safe to share between threads.
    """

    def __init__(self, frequency: DocumentFrequency, *, keep: int = 100_000) -> None:
        self._weights, self._unseen = frequency.weights()
        self._keep = keep
        self._vectors: dict[tuple[str, ...], CiderReferences] = {}

    def references(self, references: Sequence[str]) -> CiderReferences:
        """The vectors of these references (tokenized), from the cache where they were asked for before."""
        key = tuple(references)
        vectors = self._vectors.get(key)
        if vectors is None:
            vectors = CiderReferences(key, self._weights, self._unseen)
            while len(self._vectors) >= self._keep:
                # a copy of the first key: another thread may have removed it meanwhile
                self._vectors.pop(next(iter(tuple(self._vectors))), None)
            self._vectors[key] = vectors
        return vectors

    def score(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """CIDEr-D of each candidate against its own references; both tokenized."""
        return [
            self.references(of_image).score(candidate)
            for candidate, of_image in zip(candidates, references, strict=True)
        ]
