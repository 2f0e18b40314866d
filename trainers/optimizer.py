"""AdamW as OFA is trained with it."""

from collections.abc import Iterable

import torch
from torch import nn


def adamw(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    own_rates: Iterable[tuple[nn.Module, float]] = (),
) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) over what is trained of `model`; biases and other vectors do not decay.

    `own_rates`: parts of the model, with what their rate is as a multiple of all others' (`lr_scale` of their groups).
    """
    scale_of = {id(parameter): scale for part, scale in own_rates for parameter in part.parameters()}
    parts: dict[float, tuple[list[nn.Parameter], list[nn.Parameter]]] = {1.0: ([], [])}
    for parameter in model.parameters():
        if parameter.requires_grad:
            matrices, vectors = parts.setdefault(scale_of.get(id(parameter), 1.0), ([], []))
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [
        {"params": params, "weight_decay": decay} | ({} if scale == 1.0 else {"lr": lr * scale, "lr_scale": scale})
        for scale, (matrices, vectors) in parts.items()
        for params, decay in ((matrices, weight_decay), (vectors, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
