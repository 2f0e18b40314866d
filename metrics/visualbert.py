"""What the original VisualBERT prints and writes of its predictions, which is not the official metric.

Its accuracy leaves `<unk>` (answer 0) out and scores by its own soft targets; the file of answers may hold `<unk>`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The number of `<unk>` in the answer list.
UNKNOWN = 0


def predicted(logits: ArrayLike, *, unknown: int | None = None) -> NDArray[np.int64]:
    """The best answer of each row of logits [B, A]; never the number `unknown`, where it is given."""
    scores = np.array(logits, np.float64)
    if unknown is not None:
        scores[:, unknown] = -np.inf
    return scores.argmax(1)


def published_scores(logits: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """The soft target [B, A] of the best answer but `<unk>`, [B]; the original's accuracy is their mean.

    It is not VQA's accuracy: that leaves each of ten people out in turn, and knows answers that the list has not.
    """
    targets = np.asarray(targets, np.float64)
    return targets[np.arange(len(targets)), predicted(logits, unknown=UNKNOWN)]


def true_or_false(identifiers: Sequence[str], logits: ArrayLike) -> list[str]:
    """The lines of NLVR2's `results.csv`: `identifier,True` where class 1 is the better of logits [B, 2].

    The original writes no header, and no line break after the last line.
    """
    return [f"{name},{bool(best)}" for name, best in zip(identifiers, predicted(logits), strict=True)]
