"""A TRAR small enough for any test."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.trar import TrarConfig, TrarModel

SIZES: dict[str, Any] = {
    "words": 12,
    "answers": 5,
    "feature_width": 6,
    "grid": 4,
    "layers": 2,
    "hidden": 8,
    "heads": 2,
    "feed_forward": 16,
    "pool_width": 8,
    "pooled_width": 10,
    "word_width": 6,
    "dropout": 0.0,
}


def nano_config(**changes: Any) -> TrarConfig:
    return TrarConfig(**(SIZES | changes))


def nano_model(**changes: Any) -> TrarModel:
    """In evaluation mode, with weights large enough that spans differ."""
    torch.manual_seed(3)
    model = TrarModel(nano_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def nano_batch(samples: int = 3, grid: int = 4) -> tuple[Tensor, Tensor]:
    """Features and questions; the last image lacks its last grid row, the last question has one word."""
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(samples, grid * grid, SIZES["feature_width"], generator=generator)
    questions = torch.randint(1, SIZES["words"], (samples, 6), generator=generator)
    features[-1, -grid:] = 0
    questions[-1, 1:] = 0
    return features, questions


class Softmaxes(TorchDispatchMode):
    """Notes how many numbers each softmax inside the block is over."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == "aten::_softmax":
            self.sizes.append(args[0].numel())
        return func(*args, **(kwargs or {}))
