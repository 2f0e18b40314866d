"""What the training of answers minimises."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from trainers.answer_losses import ANSWER_LOSSES, class_cross_entropy
from trainers.objective import Model, Objective, ObjectiveOutput


class Answering(Objective):
    """A loss of `trainers.answer_losses`, summed over questions.

    Args:
        loss: "bce", "kl", "mce" or "cross-entropy". The latter two learn nothing from a question none of whose answers
            is among the model's; a batch without any other has the loss 0.
        logits: as in `tasks.answering.models.Answerer`.
    """

    def __init__(self, loss: str, logits: Callable[[Any, Mapping[str, Any]], Tensor]) -> None:
        self.loss = loss
        self.logits = logits

    def names(self, batch: dict) -> Sequence[str]:
        return [str(one) for one in batch["question_ids"]]

    def count(self, batch: dict, step: int) -> int:
        scores = batch["scores"]
        # at least one, so that an update without any label is divided by something
        return len(scores) if self.loss in ("bce", "kl") else max(1, int(scores.amax(1).gt(0).sum()))

    def __call__(self, model: Model, batch: dict, step: int) -> ObjectiveOutput:
        scores, logits = batch["scores"], self.logits(model, batch)
        if self.loss == "cross-entropy":
            best, labels = scores.max(1)
            mean = class_cross_entropy(logits, labels.masked_fill(best.eq(0), -1))
        else:
            mean = ANSWER_LOSSES[self.loss](logits, scores)
        questions = self.count(batch, step)
        found = logits.detach().argmax(1, keepdim=True)
        right = scores.gather(1, found).sum()
        logs = {"loss": (mean.detach() * questions, float(questions)), "train_accuracy": (right, float(len(scores)))}
        return ObjectiveOutput(mean * questions, logs)
