"""What the training of answers minimises."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from trainers.answer_losses import ANSWER_LOSSES, class_cross_entropy
from trainers.objective import Model, Objective, ObjectiveOutput


class Answering(Objective):
    """A loss of `trainers.answer_losses`, summed over questions.

    Args:
        loss: "bce", "kl", "kld", "mce" or "cross-entropy". "mce" and "cross-entropy" learn nothing from a question
            none of whose answers is among the model's; a batch without any other has the loss 0.
        logits, at_epoch: as in `tasks.answering.models.Answerer`.
        parts: micro-batches of an update, of all ranks together, where losses are summed over its questions instead of
            averaged; 0: averaged.
        epoch_updates: updates of an epoch.
    """

    def __init__(
        self,
        loss: str,
        logits: Callable[[Any, Mapping[str, Any]], Tensor],
        *,
        parts: int = 0,
        at_epoch: Callable[[Any, int], None] | None = None,
        epoch_updates: int = 1,
    ) -> None:
        self.loss = loss
        self.logits = logits
        self.parts = parts
        self.at_epoch = at_epoch
        self.epoch_updates = max(1, epoch_updates)

    def names(self, batch: dict) -> Sequence[str]:
        return [str(one) for one in batch["question_ids"]]

    def count(self, batch: dict, step: int) -> float:
        # what an update divides by is then 1
        return 1 / self.parts if self.parts else self._questions(batch)

    def _questions(self, batch: dict) -> int:
        scores = batch["scores"]
        if self.loss in ("bce", "kl", "kld"):
            return len(scores)
        answered = batch.get("answered")
        # at least one, so that an update without any label is divided by something
        return max(1, int(scores.amax(1).gt(0).sum()) if answered is None else answered)

    def __call__(self, model: Model, batch: dict, step: int) -> ObjectiveOutput:
        if self.at_epoch is not None:
            self.at_epoch(model, step // self.epoch_updates)
        scores, logits = batch["scores"], self.logits(model, batch)
        if self.loss == "cross-entropy":
            best, labels = scores.max(1)
            mean = class_cross_entropy(logits, labels.masked_fill(best.eq(0), -1))
        else:
            mean = ANSWER_LOSSES[self.loss](logits, scores)
        questions = self._questions(batch)
        found = logits.detach().argmax(1, keepdim=True)
        right = scores.gather(1, found).sum()
        logs = {"loss": (mean.detach() * questions, float(questions)), "train_accuracy": (right, float(len(scores)))}
        return ObjectiveOutput(mean * questions, logs)
