"""Where a run is, and what validation has said so far: what a checkpoint keeps beside weights and optimizer."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self


@dataclasses.dataclass
class RunState:
    """Counts of a run.

    Attributes:
        step, epoch, inner_step: of the next update, from 0; `inner_step` counts within the epoch.
        best_score, best_step: of the best checkpoint so far; None before there is one.
        validations_since_best: without a better score.
        validated_at: the update after which the model was scored last; `scores`: what was found.
        skipped_in_a_row: updates that were skipped for numbers that are not finite.
    """

    step: int = 0
    epoch: int = 0
    inner_step: int = 0
    best_score: float | None = None
    best_step: int | None = None
    validations_since_best: int = 0
    validated_at: int = 0
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    skipped_in_a_row: int = 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        """From what a checkpoint keeps, which may be of an earlier version that kept less."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: saved[name] for name in names if name in saved})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def advance(self, updates_per_epoch: int) -> None:
        """Count an update."""
        self.step += 1
        self.inner_step += 1
        if self.inner_step >= updates_per_epoch:
            self.epoch += 1
            self.inner_step = 0

    def scored(self, metric: str, scores: Mapping[str, Any]) -> bool:
        """Take the scores of a validation; whether `metric` is the best so far. A score that is no finite number is
        none."""
        self.validated_at = self.step
        self.scores = {f"val/{name}": score for name, score in scores.items() if isinstance(score, float)}
        score = scores.get(metric)
        score = score if score is not None and math.isfinite(score) else None
        improved = score is not None and (self.best_score is None or score > self.best_score)
        if improved:
            self.best_score, self.best_step = score, self.step
        self.validations_since_best = 0 if improved or score is None else self.validations_since_best + 1
        return improved
