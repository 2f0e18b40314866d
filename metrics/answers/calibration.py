"""Whether an answer's probability is how often it is right: expected calibration error (Guo et al., 2017)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 15


class Bin(NamedTuple):
    """The answers with a confidence above `low`, up to `high`; the means are NaN where there are none."""

    low: float
    high: float
    answers: int
    confidence: float
    accuracy: float


class Calibration(NamedTuple):
    """`ece` is the mean distance of confidence and accuracy over the bins, weighted by their answers: 0 to 1."""

    ece: float
    bins: tuple[Bin, ...]


def calibration(confidences: Sequence[float], scores: Sequence[float], bins: int = BINS) -> Calibration:
    """Of N answers: the probability given to each and its score, both 0 to 1 (a score may lie between). Bins are of
    equal width; a confidence of 0 falls into the first.

    Raises ValueError for no answers, lists of different lengths, no bins, and a number outside 0 to 1.
    """
    confidence, score = np.asarray(confidences, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if confidence.shape != score.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"{confidence.shape} confidences and {score.shape} scores: give one of each for every answer")
    if bins < 1:
        raise ValueError(f"bins is {bins}: it must be at least 1")
    for name, values in (("confidence", confidence), ("score", score)):
        if not ((values >= 0) & (values <= 1)).all():  # NaN as well
            raise ValueError(f"a {name} is outside 0 to 1: give probabilities and shares")
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(where, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(where, values, minlength=bins) / counts for values in (confidence, score)]
    gaps = np.where(counts > 0, np.abs(means[0] - means[1]), 0.0)
    rows = zip(
        edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), means[0].tolist(), means[1].tolist(), strict=True
    )
    return Calibration(float((gaps * counts).sum() / len(confidence)), tuple(Bin(*row) for row in rows))
