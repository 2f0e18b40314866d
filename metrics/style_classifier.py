"""Which style a caption is in, by a linear classifier of its n-grams: small, quick, and read in an afternoon.

Captions are read as the model writes them (lower case, no punctuation), so that their form never gives them away.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np

from preprocessors.targets import target_text

Features = Literal["words", "characters"]

_BUCKETS = 2**16  # hashed n-grams; a caption has about forty
_ANALYSERS = {
    "words": {"analyzer": "word", "ngram_range": (1, 3), "token_pattern": r"\S+"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
_ALL_WORDS = 10**6


class StyleClassifier:
    """Multinomial logistic regression over hashed n-grams, styles weighted so that each counts the same.

    Attributes:
        styles: the styles it tells apart, sorted.
        features: "words" (one to three) or "characters" (two to five within words).
        weights: float32 [styles, buckets]; `bias` float32 [styles].
        fingerprint: of the captions it was fitted on.
    """

    def __init__(
        self, styles: Sequence[str], features: Features, weights: np.ndarray, bias: np.ndarray, fingerprint: str
    ):
        self.styles = tuple(styles)
        self.features = features
        self.weights = weights
        self.bias = bias
        self.fingerprint = fingerprint
        self._rows = {style: row for row, style in enumerate(self.styles)}

    @classmethod
    def fit(cls, texts: Sequence[str], styles: Sequence[str], *, features: Features) -> Self:
        """Fit on captions and the style of each; the same captions give the same classifier.

        Raises:
            ValueError: fewer than two styles.
        """
        return cls(*fitted(_vectors(texts, features), styles, features), fingerprint(texts, styles))

    def vectors(self, texts: Sequence[str]) -> Any:
        """What the weights are multiplied with, [captions, buckets]."""
        return _vectors(texts, self.features)

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Log-probability of each style for each caption, float64 [captions, styles]."""
        vectors, weights = self.vectors(texts), self.weights
        if hasattr(vectors, "indices"):  # of so many n-grams a caption has a few
            used = np.unique(vectors.indices)
            vectors, weights = vectors[:, used], weights[:, used]
        scores = np.asarray(vectors @ weights.T.astype(np.float64)) + self.bias
        scores -= scores.max(1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(1, keepdims=True))

    def margins(self, texts: Sequence[str], asked: Sequence[str]) -> np.ndarray:
        """log p(asked style) - log p(likeliest other style) of each caption, float64 [captions].

        Raises:
            ValueError: a style that the classifier does not know.
        """
        columns = np.array([self.row(style) for style in asked], dtype=np.int64)
        scores = self.log_probabilities(texts)
        rows = np.arange(len(texts))
        own = scores[rows, columns]
        scores[rows, columns] = -np.inf
        return own - scores.max(1)

    def row(self, style: str) -> int:
        """The row of a style. ValueError where the classifier does not know it."""
        if style not in self._rows:
            raise ValueError(
                f"the style classifier met no caption in style {style}: it knows {len(self.styles)} styles, such as "
                f"{', '.join(self.styles[:3])}"
            )
        return self._rows[style]


def fitted(vectors: Any, styles: Sequence[str], features: str) -> tuple[list[str], Any, np.ndarray, np.ndarray]:
    """Styles, the name of the features, weights and bias of a classifier of vectors [captions, D].

    Raises:
        ValueError: fewer than two styles.
    """
    from sklearn.linear_model import LogisticRegression

    if len(set(styles)) < 2:
        raise ValueError(
            f"captions of {len(set(styles))} style cannot teach a classifier of styles: it needs two or more"
        )
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=200, tol=1e-3)
    model.fit(vectors, list(styles))
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row then stands for the second style against the first
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    names = [str(style) for style in model.classes_]
    return names, features, weights.astype(np.float32), bias.astype(np.float32)


def fingerprint(texts: Iterable[str], styles: Iterable[str]) -> str:
    """A digest of captions with their styles, whatever their order."""
    counted = Counter(zip(styles, texts, strict=True))
    digest = hashlib.sha256()
    for (style, text), count in sorted(counted.items()):
        digest.update(f"{style}\0{text}\0{count}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def normal_text(caption: str) -> str:
    """A caption in the form in which the model writes."""
    return target_text(caption, _ALL_WORDS, lowercase=True).strip()


def _vectors(texts: Sequence[str], features: Features):
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(n_features=_BUCKETS, alternate_sign=False, lowercase=False, **_ANALYSERS[features])
    return vectorizer.transform([normal_text(text) for text in texts])
