"""Optimizers by name: AdamW as OFA is trained with it, and BertAdam of the systems that answer questions."""

from collections.abc import Callable

import torch
from torch import nn

from trainers.bertadam import BertAdam


def adamw(
    model: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) over what is trained of `model`; biases and other vectors do not decay."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def optimizer_of(
    name: str, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """What makes the optimizer called `name`, "adamw" or "bertadam", of the trained parameters of a model.

    The loop sets the rate of every update, so BertAdam has no schedule of its own. ValueError for another name.
    """
    if name == "adamw":
        return lambda model: adamw(model, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    if name == "bertadam":
        return lambda model: BertAdam(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
        )
    raise ValueError(f"unknown optimizer {name!r}: choose adamw or bertadam")
