"""Optimizers by name: AdamW as OFA is trained with it, and BertAdam of the systems that answer questions."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from trainers.bertadam import BertAdam
from trainers.visualbert import ClippingBertAdam, parameter_groups


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


def optimizer_of(
    name: str,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    own_rates: Sequence[tuple[nn.Module, float]] = (),
) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """What makes the optimizer called `name` of the trained parameters of a model.

    "adamw"; "bertadam"; or "bertadam-each", which is VisualBERT's: see `trainers.visualbert`. The loop sets
    the rate of every update, so BertAdam has no schedule of its own. ValueError for another name.
    """
    if name == "adamw":
        return lambda model: adamw(model, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, own_rates=own_rates)
    if own_rates:
        raise ValueError(f"a rate of its own for a part of the model needs the optimizer adamw, not {name}")
    if name == "bertadam":
        return lambda model: BertAdam(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
        )
    if name == "bertadam-each":
        return lambda model: ClippingBertAdam(
            parameter_groups(model, weight_decay=weight_decay), lr, betas=betas, eps=eps, weight_decay=weight_decay
        )
    raise ValueError(f"unknown optimizer {name!r}: choose adamw, bertadam or bertadam-each")
