"""What VisualBERT's published training does besides BertAdam: clipping, groups of parameters, the number of updates."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainers.bertadam import BertAdam

#: Parts of the names of parameters that do not decay.
NO_DECAY = ("bias", "LayerNorm.weight")
#: The original trains no pooler, although NLVR2, VCR and the sentence-image task read it.
PUBLISHED_LEFT_OUT = ("pooler",)
_TINY = 1e-6


class ClippingBertAdam(BertAdam):
    """BertAdam that scales the gradient of every tensor on its own to a norm of at most `most` first."""

    most = 1.0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        clip_each((parameter for group in self.param_groups for parameter in group["params"]), self.most)
        return super().step(closure)


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], most: float) -> list[Tensor]:
    """Scale the gradient of every tensor on its own to a norm of at most `most`, in place; returns the norms before.

    To be called before the optimizer's step: pytorch_pretrained_bert's BertAdam has it inside.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return []
    norms = torch._foreach_norm(grads)
    factors = torch._foreach_add(norms, _TINY)
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, most)
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(grads, factors)
    return list(norms)


def parameter_groups(model: nn.Module, *, weight_decay: float, left_out: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Groups for an optimizer: what decays, and biases and norms, which do not.

    Args:
        left_out: parts of the names of parameters that are not trained; `PUBLISHED_LEFT_OUT` is the original's.
    """
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(part in name for part in left_out):
            groups[any(part in name for part in NO_DECAY)]["params"].append(parameter)
    return groups


def published_updates(items: int, batch: int, epochs: int, *, accumulation: int = 1) -> int:
    """Updates that the original plans: whole ones of each epoch, although the loader gives a smaller last batch too."""
    return int(items / batch / accumulation) * epochs
