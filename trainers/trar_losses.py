"""Losses of answers, summed, and what a mean divides them by. Shapes: B samples, A answers."""

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("bce", "kld", "ce")


def answer_loss(logits: Tensor, targets: Tensor, kind: str = "bce") -> Tensor:
    """The loss summed over samples and answers, a scalar.

    Args:
        logits: [B, A].
        targets: "bce" [B, A], the score of each answer, 0 to 1: binary cross-entropy; "kld" [B, A], the share of people
            who gave it: Kullback-Leibler divergence of the softmax; "ce" [B] or [B, 1], the answer's number:
            cross-entropy.

    Raises:
        ValueError: an unknown kind, or targets of another shape.
    """
    _check(logits, targets, kind)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    if kind == "kld":
        return F.kl_div(logits.log_softmax(-1), targets, reduction="sum")
    return F.cross_entropy(logits, targets.flatten(), reduction="sum")


def answer_units(logits: Tensor, kind: str = "bce") -> int:
    """What the sum of `answer_loss` is divided by for a mean over all its terms: samples, and answers where each
    counts.

    The gradient of a mean is that of the sum divided by this number, over all parts of a batch together: gradient norms
    of both are on one scale when the mean's are multiplied by it.
    """
    return len(logits) if kind == "ce" else logits.numel()


def _check(logits: Tensor, targets: Tensor, kind: str) -> None:
    if kind not in LOSSES:
        raise ValueError(f"answer loss {kind!r} is unknown; choose one of {', '.join(LOSSES)}")
    number = targets.dtype in (torch.int64, torch.int32)
    fits = number and targets.numel() == len(logits) if kind == "ce" else targets.shape == logits.shape
    if not fits:
        wanted = "one answer number a sample" if kind == "ce" else f"scores of shape {list(logits.shape)}"
        raise ValueError(
            f"loss {kind!r} needs {wanted}; the targets are {str(targets.dtype).removeprefix('torch.')} of shape "
            f"{list(targets.shape)}: set the loss that the targets were made for"
        )
