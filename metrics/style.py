"""Whether captions are in the style that was asked for.

A style evaluator, fitted on human captions, names the style of each caption. It is not the classifier that a style
reward trains towards: other features, and the other half of the training images. How right it is about human captions
stands beside everything it says about a model's.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from data.samples import Sample
from metrics.cider import DocumentFrequency, cider_of
from metrics.overlap import NgramOverlap
from metrics.rouge import longest_common_subsequence
from metrics.style_classifier import StyleClassifier

_TOP = 5
_BINS = 10  # of confidence, for the calibration error


def accuracies(evaluator: StyleClassifier, texts: Sequence[str], asked: Sequence[str]) -> dict[str, Any]:
    """How often the evaluator names the asked style.

    Returns:
        `accuracy`: top-1, of all captions alike; `top5`; `macro_accuracy`: the mean over styles of top-1; `per_style`:
        style -> top-1; `confusion`: `styles` and `counts`, rows the asked style, columns the style that was named;
        `named`: the style named for each caption.
    """
    scores = evaluator.log_probabilities(texts)
    rows = np.array([evaluator.row(style) for style in asked])
    named = scores.argmax(1)
    own = scores[np.arange(len(rows)), rows]
    better = (scores > own[:, None]).sum(1)
    counts = np.zeros((len(evaluator.styles),) * 2, dtype=int)
    np.add.at(counts, (rows, named), 1)
    per_style = {evaluator.styles[row]: float((named[rows == row] == row).mean()) for row in np.unique(rows)}
    return {
        "accuracy": float((named == rows).mean()),
        "top5": float((better < _TOP).mean()),
        "macro_accuracy": sum(per_style.values()) / len(per_style),
        "per_style": per_style,
        "confusion": {"styles": list(evaluator.styles), "counts": counts.tolist()},
        "named": [evaluator.styles[row] for row in named],
    }


def judgement_of_humans(evaluator: StyleClassifier, human: Sequence[Sample]) -> dict[str, Any]:
    """How right the evaluator is about human captions: `accuracy`, `macro_accuracy`, `per_style`
    and `calibration_error`."""
    texts = [caption for sample in human for caption in sample.references]
    styles = [sample.style for sample in human for _ in sample.references]
    found = accuracies(evaluator, texts, styles)
    rows = np.array([evaluator.row(style) for style in styles])
    return {
        "features": evaluator.features,
        "captions": len(texts),
        "accuracy": found["accuracy"],
        "macro_accuracy": found["macro_accuracy"],
        "per_style": found["per_style"],
        "calibration_error": calibration_error(np.exp(evaluator.log_probabilities(texts)), rows),
    }


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error (Guo et al., arXiv:1706.04599) over ten bins of confidence, 0 to 1.

    `probabilities` [captions, styles], `truth` [captions] column numbers.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(_BINS)]
    return float(sum(gaps) / len(truth))


def sensitivity(images: Sequence[str], captions: Sequence[str]) -> dict[str, Any] | None:
    """How much the style changes what is said of the same image; captions are tokenized.

    Returns None where no image has two captions, else:
        `distance`: mean over images of the mean distance of their captions, pair by pair, where the distance of two
        captions is 1 - 2 · LCS / (sum of lengths) in words (0 equal, 1 nothing in common); `ignored`: share of images
        whose captions are all equal; `images`.
    """
    of_image: dict[str, list[str]] = defaultdict(list)
    for image, caption in zip(images, captions, strict=True):
        of_image[image].append(caption)
    groups = [texts for texts in of_image.values() if len(texts) > 1]
    if not groups:
        return None
    means = []
    for texts in groups:
        pairs = [caption_distance(a, b) for a, b in combinations(texts, 2)]
        means.append(sum(pairs) / len(pairs))
    return {
        "distance": sum(means) / len(means),
        "ignored": sum(len(set(texts)) == 1 for texts in groups) / len(groups),
        "images": len(groups),
    }


def caption_distance(first: str, second: str) -> float:
    """1 - 2 · (longest common subsequence) / (sum of lengths), in words."""
    one, two = first.split(), second.split()
    if not one and not two:
        return 0.0
    return 1 - 2 * longest_common_subsequence(one, two) / (len(one) + len(two))


def likeness(first: Sequence[str], second: Sequence[str]) -> float:
    """How alike two groups of tokenized captions are in their words: Σ min(p, q) over all words, with p and q a word's
    share of the words of either group; 0 (nothing in common) to 1 (the same words equally often)."""
    one, two = (Counter(word for caption in captions for word in caption.split()) for captions in (first, second))
    if not one or not two:
        return float(not one and not two)
    words = one.total(), two.total()
    return sum(min(count / words[0], two[word] / words[1]) for word, count in one.items())


def likeness_of_styles(images: Sequence[str], styles: Sequence[str], captions: Sequence[Sequence[str]]) -> list[float]:
    """For each image that is asked for in two styles or more, the mean `likeness` of the captions of two of its styles.

    Each row is a request, with one or more captions, tokenized.
    """
    of_image: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image, style, texts in zip(images, styles, captions, strict=True):
        of_image[image][style] += texts
    means = []
    for groups in of_image.values():
        pairs = [likeness(one, two) for one, two in combinations(groups.values(), 2)]
        means += [sum(pairs) / len(pairs)] if pairs else []
    return means


def style_cider(
    images: Sequence[str], captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float] | None:
    """CIDEr-D against references of the asked style, and against those of the image's other styles; all tokenized.

    One table of document frequencies, of all the references of each image, serves both. Returns `own`, `others` and
    `difference`, means over the captions of images that have other styles; None where there are none.
    """
    of_image: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        of_image[image].append(row)
    corpus = DocumentFrequency.of([text for row in rows for text in references[row]] for rows in of_image.values())
    against = [(row, other) for rows in of_image.values() if len(rows) > 1 for row in rows for other in rows]
    if not against:
        return None
    overlap = NgramOverlap([captions[row] for row, _ in against], references, [other for _, other in against])
    own, elsewhere = {}, defaultdict(list)
    for (row, other), score in zip(against, cider_of(overlap, corpus), strict=True):
        if row == other:
            own[row] = score
        else:
            elsewhere[row].append(score)
    others = [sum(scores) / len(scores) for scores in elsewhere.values()]
    means = sum(own.values()) / len(own), sum(others) / len(others)
    return {"own": means[0], "others": means[1], "difference": means[0] - means[1]}
