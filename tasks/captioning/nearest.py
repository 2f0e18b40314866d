"""The control `nearest`: what people wrote of the training images that look most alike; nothing is trained.

For an image and a style, take the k training images with a caption in that style whose features are nearest by cosine
(pooled features of EfficientNet-Lite0 with the weights of ImageNet), and of all their captions in that style the one
that is most like the others: the consensus caption of Devlin et al. (arXiv:1505.04467), by the CIDEr of Vedantam et al.
(mean cosine of tf-idf weighted n-grams of one to four words). k is chosen for each style on training images alone, each
captioned from the others.

Shapes: N captions, I images, D features.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.feature_cache import FeatureCache
from data.names import canonical_style
from data.samples import Split
from metrics.cider import cider, idf, weigh
from metrics.ngrams import MAX_ORDER, CountedCaptions
from metrics.ptb_tokenizer import ptb_tokenize
from metrics.tokenizers import Tokenize, tokenizer_of
from models.towers.lite0 import HEAD, Lite0
from preprocessors.images import ImageTransform, load_image

LOGGER = logging.getLogger("stylecap")

#: Numbers of neighbours that are tried.
NEIGHBOURS = (5, 10, 20, 40, 80, 160)
#: Training images of a style that k is chosen by.
TRIED = 300
_SIDE = 224
_QUERIES = 256  # images compared with all others at once

Features = Callable[[Split], np.ndarray]


def nearest_captions(train: Split, asked: Split, features: Features, *, seed: int, tokenizer: str = "ptb") -> list[str]:
    """A caption for each of `asked.requests()`. An image that is a training image itself is captioned from the others.

    `features`: split -> float32 [images of the split, D], rows of length 1. `seed` draws the images that choose k;
    `tokenizer` is a key of `metrics.tokenizers.TOKENIZERS`.
    Raises ValueError for a style without training captions.
    """
    known, wanted = features(train), features(asked)
    place = {image_id: j for j, image_id in enumerate(asked.image_ids)}
    requests, canonical = asked.requests(), canonical_style(train.styles + train.unknown_styles)
    captions = [""] * len(requests)
    for style in dict.fromkeys(request.style for request in requests):
        shelf = Shelf.of(train, canonical(style), known, tokenizer_of(tokenizer))
        chosen = shelf.choose_k(seed)
        LOGGER.info("nearest neighbours in style %s: k = %d", style, chosen)
        rows = [row for row, request in enumerate(requests) if request.style == style]
        queries = wanted[[place[requests[row].image_id] for row in rows]]
        for row, near in zip(rows, nearest(queries, shelf.features, chosen + 1), strict=True):
            others = near[[shelf.image_ids[image] != requests[row].image_id for image in near]]
            captions[row] = shelf.consensus(others[:chosen] if len(others) else near)
    return captions


def nearest(queries: np.ndarray, features: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """For each of the queries [Q, D] the k rows of `features` [I, D] with the largest product, largest first."""
    for start in range(0, len(queries), _QUERIES):
        products = queries[start : start + _QUERIES] @ features.T
        yield from np.argsort(-products, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class Shelf:
    """The training images that have captions in one style.

    Attributes:
        image_ids: [I].
        features: float32 [I, D].
        captions: raw, [N]; those of image i are `bounds[i]` to `bounds[i + 1]`.
        vectors: of the captions; their product is the CIDEr of one against the other, 0 to 1.
        tokenize: divides captions into words.
    """

    image_ids: Sequence[str]
    features: np.ndarray
    captions: Sequence[str]
    bounds: np.ndarray
    vectors: "Vectors"
    tokenize: Tokenize = ptb_tokenize

    @classmethod
    def of(cls, train: Split, style: str, features: np.ndarray, tokenize: Tokenize = ptb_tokenize) -> "Shelf":
        place = {image_id: j for j, image_id in enumerate(train.image_ids)}
        requests = [request for request in train.requests() if request.style == style]
        if not requests:
            raise ValueError(f"style {style!r} has no training captions to take the nearest images' from")
        sizes = [len(request.references) for request in requests]
        captions = [caption for request in requests for caption in request.references]
        image = np.repeat(np.arange(len(requests)), sizes)
        rows = [place[request.image_id] for request in requests]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        ids = [request.image_id for request in requests]
        return cls(ids, features[rows], captions, bounds, Vectors.of(tokenize(captions), image), tokenize)

    def consensus(self, images: Sequence[int] | np.ndarray) -> str:
        """Of the captions of these images the one most like the others; of equals the first."""
        rows = np.concatenate([np.arange(self.bounds[image], self.bounds[image + 1]) for image in images])
        return self.captions[int(rows[np.argmax(self.vectors.likeness(rows))])]

    def choose_k(self, seed: int) -> int:
        """The number of neighbours that captions images best from the others, by CIDEr; of equals the smallest."""
        images = len(self.features)
        drawn = random.Random(seed).sample(range(images), min(TRIED, images))
        choices = [k for k in NEIGHBOURS if k < images]
        if not choices:
            return images
        # One more, for an image is its own nearest.
        found = list(nearest(self.features[drawn], self.features, choices[-1] + 1))
        others = [near[near != image] for image, near in zip(drawn, found, strict=True)]
        references = [
            self.tokenize(list(self.captions[self.bounds[image] : self.bounds[image + 1]])) for image in drawn
        ]
        scores = [
            np.mean(cider(self.tokenize([self.consensus(near[:k]) for near in others]), references)) for k in choices
        ]
        return choices[int(np.argmax(scores))]


@dataclass(frozen=True)
class Vectors:
    """Sparse vectors of captions: row r has `values[starts[r]:starts[r + 1]]` in `columns` likewise, and length 1 (less
    for a caption of fewer than four words)."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, captions: Sequence[str], document: np.ndarray) -> "Vectors":
        """tf-idf of the n-grams of tokenized captions, each order of length 1/2; `document` [N]: the image of each."""
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        first = 0
        for order in CountedCaptions(captions).orders():
            weights = idf(int(document.max()) + 1, order.documents(order.counts, document))
            values, norms = weigh(order.counts, weights, len(captions))
            norm = norms[order.counts.caption] * MAX_ORDER**0.5
            values = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
            parts.append((order.counts.caption, order.counts.ngram + first, values))
            first += order.different
        caption, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        by_caption = np.argsort(caption, kind="stable")
        starts = np.searchsorted(caption[by_caption], np.arange(len(captions) + 1))
        return cls(starts, columns[by_caption], values[by_caption])

    def likeness(self, rows: np.ndarray) -> np.ndarray:
        """The sum of each row's products with all others of `rows`."""
        entries = np.concatenate([np.arange(self.starts[row], self.starts[row + 1]) for row in rows])
        caption = np.repeat(np.arange(len(rows)), self.starts[rows + 1] - self.starts[rows])
        values = self.values[entries]
        _, column = np.unique(self.columns[entries], return_inverse=True)
        of_others = np.bincount(column, values)[column] - values
        return np.bincount(caption, values * of_others, minlength=len(rows))


def pooled_features(split: Split, folder: Path) -> np.ndarray:
    """Features of the images of a split by EfficientNet-Lite0, float32 [I, 1280] of length 1; kept in `folder`.

    Raises ValueError, with the remedy, where its weights are not installed, and for an image that is missing or broken.
    """
    tower = Lite0.pretrained().to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    transform = ImageTransform(_SIDE, _SIDE, train=False)

    def compute(paths: list[str]) -> np.ndarray:
        pixels = torch.stack([transform(load_image(path, draft_size=_SIDE)) for path in paths])
        device = next(tower.parameters()).device
        made = tower.grid(pixels.to(device, memory_format=torch.channels_last), 1)
        return made.view(len(paths), 1, HEAD, 1, 1).cpu().numpy()

    kept = FeatureCache(
        folder / f"pooled-{split.name}.bin", split.image_paths, (1, HEAD, 1, 1), f"lite0 pooled {_SIDE}", compute
    )
    rows = np.stack([kept[path].reshape(HEAD) for path in split.image_paths]).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
