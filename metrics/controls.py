"""Controls: what a score would be without the image, without the style, and without a model at all.

A caption's score says little alone: in a narrow corpus one sentence fits many pictures, and a model that ignores what
it is shown, or the style it is asked for, may still score. The same evaluation measures each of these:

- `blank-image`: every image is uniform mid-grey (pixels of 0 after normalisation), the image itself still "there";
- `wrong-style`: each request is captioned in the next style of the list, and scored as the style that was asked for;
- `constant`: for each style, one caption for all images: the training caption that scores best in hindsight. That
  choice looks at the references, so this control is optimistic.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, get_args

import numpy as np

from data.samples import Sample
from metrics.cider import SIGMA, DocumentFrequency
from metrics.ngrams import MAX_ORDER, Ngram, count_ngrams
from metrics.ptb_tokenizer import ptb_tokenize

Control = Literal["blank-image", "wrong-style", "constant"]
CONTROLS: tuple[Control, ...] = get_args(Control)

#: Distinct training captions of a style that `constant_captions` chooses from.
CANDIDATES = 2000


def in_next_style(samples: Sequence[Sample], styles: Sequence[str]) -> list[Sample]:
    """The samples with each style replaced by the one after it in `styles`; the first follows the last.

    Raises ValueError if there are fewer than two styles, or a sample's is not among them.
    """
    if len(styles) < 2:
        raise ValueError(f"the control wrong-style needs at least two styles, but there is only {', '.join(styles)}")
    following = dict(zip(styles, [*styles[1:], styles[0]], strict=True))
    unknown = next((sample.style for sample in samples if sample.style not in following), None)
    if unknown is not None:
        raise ValueError(f"style {unknown!r} is not in the style list, so no style follows it: add it to data.styles")
    return [replace(sample, style=following[sample.style]) for sample in samples]


def constant_captions(training: Iterable[Sample], samples: Sequence[Sample], *, seed: int) -> dict[str, str]:
    """For each style of `samples` the caption that, written for all of them, has the best CIDEr.

    It is chosen among at most `CANDIDATES` distinct captions of that style in `training`, drawn by `seed`. CIDEr is
    that of the style's samples alone. Raises ValueError for a style without training captions.
    """
    known: dict[str, dict[str, str]] = defaultdict(dict)  # style -> tokenized caption -> as it was written
    for sample in training:
        known[sample.style].setdefault(" ".join(sample.caption.split()), sample.caption)
    asked: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        asked[sample.style].append(sample)
    best = {}
    for style, of_style in asked.items():
        if style not in known:
            raise ValueError(f"style {style!r} has no training captions to choose a constant one from")
        candidates = sorted(known[style].values())
        if len(candidates) > CANDIDATES:
            candidates = random.Random(f"{seed} {style}").sample(candidates, CANDIDATES)
        references = [ptb_tokenize(list(sample.references)) for sample in of_style]
        scores = CiderCorpus(references).scores(ptb_tokenize(candidates))
        best[style] = candidates[int(np.argmax(scores))]
    return best


@dataclass(frozen=True)
class _Postings:
    """Where an n-gram occurs: rows of references int64 [W], and its tf-idf weight in each, float64 [W]."""

    rows: np.ndarray
    weights: np.ndarray


class CiderCorpus:
    """The references of a whole split, indexed by n-gram, so that one caption is compared with all images at once.

    `scores` equals the mean of `metrics.cider.cider` with that caption for every image, some hundred times quicker.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """`references`: tokenized references of each image; an image has at least one."""
        self._weights, self._unseen = DocumentFrequency.of(references).weights()
        found: dict[Ngram, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
        lengths: list[int] = []
        squares: list[list[float]] = []
        shares: list[float] = []
        for of_image in references:
            for reference in of_image:
                length, orders = count_ngrams(reference)
                norms = [0.0] * MAX_ORDER
                for ngram, count in chain.from_iterable(counts.items() for counts in orders):
                    weight = count * self._weights[ngram]
                    norms[len(ngram) - 1] += weight * weight
                    rows, weights = found[ngram]
                    rows.append(len(lengths))
                    weights.append(weight)
                lengths.append(max(0, length - 1))
                squares.append(norms)
                shares.append(1.0 / len(of_image) / len(references))
        self._lengths = np.array(lengths)  # [R], R references
        self._norms = np.sqrt(np.array(squares)).T  # [orders, R]
        self._shares = np.array(shares)  # [R]: the weight of a reference in the mean over images
        self._postings = {ngram: _Postings(np.array(rows), np.array(w)) for ngram, (rows, w) in found.items()}

    def scores(self, candidates: Sequence[str]) -> np.ndarray:
        """float64 [candidates]: mean CIDEr of each tokenized caption, were it written for every image."""
        return np.array([self._score(candidate) for candidate in candidates])

    def _score(self, candidate: str) -> float:
        length, orders = count_ngrams(candidate)
        products = np.zeros_like(self._norms)
        squares = np.zeros((MAX_ORDER, 1))
        for ngram, count in chain.from_iterable(counts.items() for counts in orders):
            weight = count * self._weights.get(ngram, self._unseen)
            squares[len(ngram) - 1] += weight * weight
            postings = self._postings.get(ngram)
            if postings is not None:
                products[len(ngram) - 1, postings.rows] += np.minimum(weight, postings.weights) * postings.weights
        norms = np.sqrt(squares) * self._norms
        similarity = np.divide(products, norms, out=products, where=norms > 0).sum(axis=0)
        apart = max(0, length - 1) - self._lengths
        penalty = np.exp(-(apart**2) / (2 * SIGMA**2))
        return 10.0 / MAX_ORDER * math.fsum(similarity * penalty * self._shares)
