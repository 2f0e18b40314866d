"""Controls: what a score would be without the image, without the style, and without a model at all.

A caption's score says little alone: in a narrow corpus one sentence fits many pictures, and a model that ignores what
it is shown, or the style it is asked for, may still score. The same evaluation measures each of these:

- `blank-image`: every image is uniform mid-grey (pixels of 0 after normalisation), the image itself still "there";
- `wrong-style`: each request is captioned in the next style of the list, and scored as the style that was asked for;
- `constant`: for each style, one caption for all images: the training caption that scores best in hindsight. That
  choice looks at the references, so this control is optimistic;
- `nearest`: what people wrote of the training images that look most alike; see `tasks.captioning.nearest`.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.names import canonical_style
from data.samples import Sample
from metrics.cider import idf, length_penalty, weigh
from metrics.ngrams import MAX_ORDER, CountedCaptions, CountedOrder
from metrics.tokenizers import tokenizer_of

CONTROLS = ("blank-image", "wrong-style", "constant", "nearest")
#: Those that need no model.
WITHOUT_MODEL = ("constant", "nearest")

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


def constant_captions(
    training: Iterable[Sample], samples: Sequence[Sample], *, seed: int, tokenizer: str = "ptb"
) -> dict[str, str]:
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
    tokenize = tokenizer_of(tokenizer)
    canonical = canonical_style(list(known))
    best = {}
    for style, of_style in asked.items():
        if canonical(style) not in known:
            raise ValueError(f"style {style!r} has no training captions to choose a constant one from")
        candidates = sorted(known[canonical(style)].values())
        if len(candidates) > CANDIDATES:
            candidates = random.Random(f"{seed} {style}").sample(candidates, CANDIDATES)
        references = [tokenize(list(sample.references)) for sample in of_style]
        scores = constant_cider(tokenize(candidates), references)
        best[style] = candidates[int(np.argmax(scores))]
    return best


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order: what each caption weighs, and where in the references each n-gram is.

    The rows of candidate c are `starts[c]` to `starts[c + 1]`, those of n-gram g in the references `first[g]` to
    `first[g + 1]`; in both, `weights` are tf-idf. `norms` [candidates] and `reference_norms` [references].
    """

    starts: np.ndarray
    ngrams: np.ndarray
    weights: np.ndarray
    norms: np.ndarray
    first: np.ndarray
    references: np.ndarray
    reference_weights: np.ndarray
    reference_norms: np.ndarray

    def similarities(self, candidate: int) -> np.ndarray:
        """Cosine, clipped, of a candidate with each reference, float64 [references]."""
        products = np.zeros_like(self.reference_norms)
        rows = slice(*self.starts[candidate : candidate + 2])
        for ngram, weight in zip(self.ngrams[rows].tolist(), self.weights[rows].tolist(), strict=True):
            there = slice(*self.first[ngram : ngram + 2])
            weights = self.reference_weights[there]
            products[self.references[there]] += np.minimum(weight, weights) * weights
        norms = self.norms[candidate] * self.reference_norms
        return np.divide(products, norms, out=products, where=norms > 0)


def constant_cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Mean CIDEr of each caption, were it written for every image; float64 [candidates].

    It equals the mean of `metrics.cider.cider` with that caption for all images, some hundred times quicker. Captions
    are tokenized, and an image has at least one reference.
    """
    number = len(candidates)
    sizes = np.array([len(of_image) for of_image in references])
    image = np.repeat(np.arange(len(references)), sizes)
    counted = CountedCaptions([*candidates, *(text for of_image in references for text in of_image)])
    orders = [_weighed(order, number, image, len(references)) for order in counted.orders()]
    lengths = counted.lengths[number:]
    shares = 10.0 / MAX_ORDER / sizes[image] / len(references)
    return np.array(
        [
            sum(order.similarities(row) for order in orders) @ (length_penalty(length, lengths) * shares)
            for row, length in enumerate(counted.lengths[:number])
        ]
    )


def _weighed(order: CountedOrder, candidates: int, image: np.ndarray, images: int) -> _Order:
    """Split counts into the first so many captions and their references, of so many images."""
    own, other = order.counts.split(candidates)
    weights = idf(images, order.documents(other, image))
    own_weights, norms = weigh(own, weights, candidates)
    other_weights, other_norms = weigh(other, weights, len(image))
    by_ngram = np.argsort(other.ngram, kind="stable")
    return _Order(
        starts=np.searchsorted(own.caption, np.arange(candidates + 1)),
        ngrams=own.ngram,
        weights=own_weights,
        norms=norms,
        first=np.searchsorted(other.ngram[by_ngram], np.arange(order.different + 1)),
        references=other.caption[by_ngram],
        reference_weights=other_weights[by_ngram],
        reference_norms=other_norms,
    )
