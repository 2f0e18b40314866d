"""What an evaluation says, whatever the task."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `metrics.json` and `predictions.json` hold.

    Attributes:
        metrics: name -> score of all predictions; groups of scores are objects.
        predictions: a row each: `image_id`, `image` (its file, where there is one), what was predicted, `references`,
            and `scores`: name -> the row's own score, whose mean is the score of all.
    """

    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]
