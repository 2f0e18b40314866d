"""What pre-training minimises: the sum of all losses, each a mean over the whole update."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainers.objective import Model, Objective, ObjectiveOutput
from trainers.pretraining_losses import Part


class Pretraining(Objective):
    """The losses of a phase; see `tasks.pretraining.models.Pretrainer` for `losses` and `parts`.

    Each loss is divided by its own count over all micro-batches and ranks of the update: a micro-batch that masks few
    words weighs as much as its words.
    """

    def __init__(self, losses: Sequence[str], parts: Callable[[Any, Mapping[str, Any]], Mapping[str, Part]]) -> None:
        self.losses = tuple(losses)
        self.parts = parts
        self._counts: dict[str, float] = {}
        self._batches = 1.0

    def update_begins(self, batches: Sequence[dict], add: Callable[[list[float]], list[float]]) -> None:
        counts = [float(sum(batch["counts"][name] for batch in batches)) for name in self.losses]
        self._batches, *counts = add([float(len(batches)), *counts])
        self._counts = dict(zip(self.losses, counts, strict=True))

    def names(self, batch: dict) -> Sequence[str]:
        return [f"row {row}" for row in batch["rows"]]

    def count(self, batch: dict, step: int) -> int:
        return 1

    def __call__(self, model: Model, batch: dict, step: int) -> ObjectiveOutput:
        parts = self.parts(model, batch)
        total, logs = next(iter(parts.values())).total * 0, {}
        for name, part in parts.items():
            counted = name in batch["losses"]
            share = part.total / max(1.0, self._counts[name])
            # one that is left out still gives its parameters a gradient, of 0, which data-parallel wrappers wait for
            total = total + (share if counted else 0 * share)
            if counted:
                logs[f"loss/{name}"] = (part.total.detach(), float(part.count))
                if part.right is not None and part.asked is not None:
                    logs[f"right/{name}"] = (part.right, float(part.asked))
        logs["loss"] = (total.detach() * self._batches, 1.0)
        return ObjectiveOutput(total * self._batches, logs)
