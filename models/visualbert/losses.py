"""VisualBERT's losses as functions of logits and targets. A negative label is no label; without any, the loss is 0."""

import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labels that are not negative; logits [R, C], labels [R].

    Where there is no label it is 0, where the original and transformers give NaN; the graph is kept, so that every rank
    of a parallel run has the same gradients to share.
    """
    known = labels >= 0
    # a label that does not count still has to be an index
    losses = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def soft_target_loss(logits: Tensor, targets: Tensor, *, kind: str = "kl") -> Tensor:
    """Loss against soft targets [B, A] that need not sum to 1; logits [B, A].

    "kl": sum of target * (log target - log softmax), the original's. "bce": sum of the binary cross-entropies of all
    answers. Both are means over the rows.

    Raises:
        ValueError: another kind.
    """
    if kind == "kl":
        return F.kl_div(F.log_softmax(logits, dim=-1), targets, reduction="batchmean")
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
    raise ValueError(f'answer loss {kind!r} is unknown: choose "kl" or "bce"')
