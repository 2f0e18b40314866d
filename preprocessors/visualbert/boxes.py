"""Which regions of an image are used."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def screened(
    confidences: ArrayLike,
    *,
    confidence_cap: float | None = None,
    image_feature_cap: int | None = None,
    min_cap: int = 1,
    max_cap: int | None = 300,
    keep: Sequence[int] | None = None,
    rule: Literal["confident", "published"] = "confident",
) -> NDArray[np.int64]:
    """Rows of the regions that are kept, in rising order; confidences [N] from a detector.

    Args:
        confidence_cap: least confidence; where fewer than `min_cap` reach it, the first `min_cap` rows are taken.
        image_feature_cap, max_cap: most regions.
        keep: rows that are kept in any case, beyond the caps.
        rule: which rows are left when too many are confident. "confident": the first of the confident ones, in the
            file's order. "published": the first rows of the file, confident or not, as the original does it. Without
            `confidence_cap` both are the same.
    """
    confidences = np.asarray(confidences)
    kept = np.arange(len(confidences))
    if confidence_cap:
        kept = np.flatnonzero(confidences >= confidence_cap)
        if len(kept) < min_cap:
            kept = np.arange(min(min_cap, len(confidences)))
    for cap in (image_feature_cap, max_cap):
        if cap and cap < len(kept):
            kept = np.arange(cap) if rule == "published" else kept[:cap]
    return kept if keep is None else np.union1d(kept, np.asarray(keep))
