"""TRAR's learning rate and temperature as pure functions of the update and the epoch.

Updates count from 1 and epochs from 0. With a warm-up of 3 epochs the rates are the published ones; the public code's
are wrong for any other number (its stairs are always three, and reach three times the base rate without a warm-up).
"""

from collections.abc import Collection

import torch
from torch import nn

POLICIES = ("slow", "fast", "finetune")


def learning_rate(
    step: int,
    *,
    epoch: int,
    lr: float,
    samples: float,
    batch_size: int,
    warmup_epochs: int = 3,
    decay_epochs: Collection[int] = (10, 12),
    decay: float = 0.2,
) -> float:
    """The rate of update `step` in epoch `epoch`.

    In warm-up epoch k of w it is lr · k / (w + 1); epochs end after samples / batch_size updates, a broken number. At
    the start of each epoch of `decay_epochs` the base rate is multiplied by `decay`, for good.
    """
    base = lr * decay ** sum(epoch >= start for start in decay_epochs)
    for stair in range(1, warmup_epochs + 1):
        if step <= int(samples / batch_size * stair):
            return base * stair / (warmup_epochs + 1)
    return base


def updates_of(epochs: int, samples: int, batch_size: int) -> int:
    """Updates that so many epochs make; what does not fill a batch is left out of each epoch.

    The public code goes on from int(samples / batch_size * epochs) when it resumes, which may be a few more.
    """
    return samples // batch_size * epochs


def temperature(
    epoch: int, *, policy: str, epochs: int, warmup_epochs: int = 3, tau_max: float = 10.0, tau_min: float = 0.1
) -> float:
    """The tau of hard routing throughout epoch `epoch` out of `epochs`.

    Args:
        policy: "slow" falls evenly from `tau_max` to `tau_min`; "fast" falls from `tau_max` to 1 in the warm-up, then
            evenly to 1 / (epochs - warmup_epochs); "finetune" starts at 1 + epochs / (warmup_epochs + 1), falls by 1 /
            (warmup_epochs + 1) an epoch, and is `tau_min` after the warm-up.

    Raises:
        ValueError: an unknown policy, or an epoch that there is not.
    """
    if policy not in POLICIES:
        raise ValueError(f"tau policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}")
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch {epoch} of {epochs}: epochs count from 0 to {epochs - 1}")
    warm = epoch < warmup_epochs
    if policy == "slow":
        return tau_max - (tau_max - tau_min) * epoch / max(1, epochs - 1)
    if policy == "fast":
        if warm:
            return tau_max - (tau_max - 1) * epoch / warmup_epochs
        return 1 - (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return 1 + (epochs - epoch) / (warmup_epochs + 1) if warm else tau_min


def adam(model: nn.Module, *, lr: float) -> torch.optim.Adam:
    """Adam (arXiv:1412.6980) with TRAR's settings, over what is trained of `model`."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=lr, betas=(0.9, 0.98), eps=1e-9, fused=True)
