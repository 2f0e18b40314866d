"""Losses of answers, as pure functions of logits and scores.

Shapes: B questions, A answers. A score is the share of people who gave an answer, 0 to 1.
"""

from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, scores: Tensor) -> Tensor:
    """Binary cross-entropy of every answer [B, A], summed over the answers and averaged over the questions: a scalar.

    It is the mean over everything times A, as LXMERT (`tasks/vqa.py`) has it.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), scores.float(), reduction="sum") / max(1, len(logits))


def best_answer_cross_entropy(logits: Tensor, scores: Tensor) -> Tensor:
    """Cross-entropy against the best answer, averaged over the questions, times A: LXMERT's option `mceLoss`.

    A question none of whose answers is in the list teaches nothing; the original trains it towards the first answer.
    0 where that is true of all questions.
    """
    best, target = scores.max(1)
    losses = F.cross_entropy(logits.float(), target, reduction="none")
    known = best.gt(0)
    return (losses * known).sum() / known.sum().clamp(min=1) * logits.shape[1]


def class_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits [B, A] and labels [B], -1 where there is none; 0 where no label is there."""
    known = labels.ge(0)
    losses = F.cross_entropy(logits.float(), labels.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def score_divergence(logits: Tensor, scores: Tensor) -> Tensor:
    """Sum of score * (log score - log softmax) over the answers, averaged over the questions.

    Scores are taken as they are, whatever they sum to: VisualBERT's loss. Of the shares of people who gave each answer
    it is TRAR's `kld`.
    """
    return F.kl_div(F.log_softmax(logits.float(), dim=1), scores.float(), reduction="batchmean")


#: The losses that a fine-tuning may name.
ANSWER_LOSSES = {
    "bce": binary_cross_entropy,
    "mce": best_answer_cross_entropy,
    "kl": score_divergence,
    "kld": score_divergence,
}
