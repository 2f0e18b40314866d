"""CLIPScore and RefCLIPScore (Hessel et al., arXiv:2104.08718), of vectors of length 1."""

from collections.abc import Sequence

import numpy as np

#: The paper's weight, which spreads the cosines over 0 to 1, and what it puts before each caption.
WEIGHT, PREFIX = 2.5, "A photo depicts "


def clip_score(caption: np.ndarray, image: np.ndarray) -> float:
    """2.5 · max(cos, 0), of [D] and [D]."""
    return WEIGHT * max(float(caption @ image), 0.0)


def ref_clip_score(score: float, caption: np.ndarray, references: Sequence[np.ndarray]) -> float:
    """The harmonic mean of a caption's CLIPScore and its largest cosine with a reference, at least 0."""
    nearest = max(max(float(caption @ reference) for reference in references), 0.0)
    return 2 * score * nearest / (score + nearest) if score + nearest else 0.0
