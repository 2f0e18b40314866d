"""Which style a caption is in, by a linear classifier of its n-grams: small, quick, and read in an afternoon.

Captions are read as the model writes them (lower case, no punctuation), so that their form never gives them away.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np

from data.files import replacing
from data.samples import Split
from preprocessors.targets import target_text

LOGGER = logging.getLogger("stylecap")

Features = Literal["words", "characters"]

FORMAT = 1  # of the saved file; raise it when what is saved, or how text becomes features, changes
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
        from sklearn.linear_model import LogisticRegression

        if len(set(styles)) < 2:
            raise ValueError(
                f"captions of {len(set(styles))} style cannot teach a classifier of styles: it needs two or more"
            )
        model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=200, tol=1e-3)
        model.fit(_vectors(texts, features), list(styles))
        weights, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # one row then stands for the second style against the first
            weights, bias = np.vstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
        return cls(
            [str(style) for style in model.classes_],
            features,
            weights.astype(np.float32),
            bias.astype(np.float32),
            fingerprint(texts, styles),
        )

    @classmethod
    def of_split(cls, path: Path, split: Split, *, half: int, features: Features) -> Self:
        """The classifier of one half of a split's images: read from `path`, or fitted and written there.

        A file of other captions, other features or another version is replaced.
        """
        samples = half_of(split, half)
        texts, styles = [sample.caption for sample in samples], [sample.style for sample in samples]
        if path.exists():
            try:
                known = cls.load(path)
            except ValueError as error:
                LOGGER.warning("%s; it is fitted anew", error)
            else:
                if known.features == features and known.fingerprint == fingerprint(texts, styles):
                    return known
        fitted = cls.fit(texts, styles, features=features)
        fitted.save(path)
        return fitted

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Log-probability of each style for each caption, float64 [captions, styles]."""
        scores = np.asarray(_vectors(texts, self.features) @ self.weights.T.astype(np.float64)) + self.bias
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

    def save(self, path: Path) -> None:
        """Write an .npz file of plain arrays, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream,
                format=FORMAT,
                styles=np.array(self.styles),
                features=self.features,
                weights=self.weights,
                bias=self.bias,
                fingerprint=self.fingerprint,
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; runs nothing that a file could hold. ValueError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) != FORMAT:
                    raise ValueError(f"its format is {file['format']}, this program writes {FORMAT}")
                styles = [str(style) for style in file["styles"]]
                return cls(styles, str(file["features"]), file["weights"], file["bias"], str(file["fingerprint"]))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is not a style classifier: {error}") from error
        except Exception as error:  # a broken archive raises what zipfile and zlib like
            raise ValueError(f"{path} is not a style classifier: {error}") from error


def half_of(split: Split, half: int) -> list:
    """The samples of one half (0 or 1) of a split's images; an image's half depends on its id alone."""
    return [sample for sample in split if hashlib.sha256(sample.image_id.encode()).digest()[0] % 2 == half]


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
