"""The moving average of a model's weights: what a run with `train.ema` validates and saves.

With decay d, after update n (from 1) each trained weight w has the average

    a = d_n a + (1 - d_n) w,    d_n = min(d, (1 + n) / (10 + n)),

so that the start is forgotten soon (the warm-up of TensorFlow's ExponentialMovingAverage). Buffers are the model's own.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainers.sharding import like_parameter


class WeightAverage:
    """The average of what is trained of `model`, which may be divided over ranks; begins as the weights are now."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.updates = 0
        self._weights = dict(trained(model))
        self._average = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after one more update."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._average.values()), self._plain(), 1 - decay)

    def _plain(self) -> list[Tensor]:
        return [weight.detach() for weight in self._weights.values()]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has its average's weights within the block, and its own again after it."""
        own = [weight.clone() for weight in self._plain()]
        self._put(self._average.values())
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Any) -> None:
        for weight, value in zip(self._weights.values(), values, strict=True):
            weight.copy_(value)

    def state(self) -> dict[str, Any]:
        """The count of updates and the model's own weights: those that are saved as the model are the average."""
        return {"updates": self.updates, "weights": {name: each.clone() for name, each in self._own().items()}}

    def _own(self) -> dict[str, Tensor]:
        return dict(zip(self._weights, self._plain(), strict=True))

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, in a model that has the weights of the average."""
        self.updates = state["updates"]
        self._average = {name: weight.clone() for name, weight in self._own().items()}
        self._put(
            like_parameter(state["weights"][name].to(weight.device), weight) for name, weight in self._weights.items()
        )


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and value of what is trained; tied weights once."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
