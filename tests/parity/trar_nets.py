"""Networks of TRAR's golden cases: configuration, weights by name, inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.trar import TrarConfig, TrarModel
from models.trar.configuration import published_settings
from tests.parity.conftest import parity_weights


def weight(name: str, shape: Sequence[int]) -> Tensor:
    """The golden value of a weight: gains of the norms lie around one."""
    return parity_weights().tensor_for(name, tuple(shape)) + (1.0 if name.endswith(".a_2") else 0.0)


def golden_config(config: Mapping[str, Any], keys: Mapping[str, Sequence[int]]) -> TrarConfig:
    adapter = next(name for name in keys if name.startswith("adapter.") and name.endswith(".weight"))
    sizes: dict[str, Any] = {
        "words": keys["embedding.weight"][0],
        "answers": keys["proj.bias"][0],
        "feature_width": keys[adapter][1],
    }
    return TrarConfig(**sizes, **published_settings(config))


def golden_model(config: Mapping[str, Any], keys: Mapping[str, Sequence[int]]) -> TrarModel:
    """The network that a case describes, with its weights; its names and shapes must be the golden ones."""
    model = TrarModel(golden_config(config, keys))
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: list(shape) for name, shape in keys.items()}
    model.load_state_dict({name: weight(name, shape) for name, shape in keys.items()})
    return model


def no_noise(model: TrarModel, samples: int) -> Tensor:
    """Noise of zero for hard routing, [layers, samples, spans]."""
    return torch.zeros(model.config.layers, samples, len(model.config.orders))


def tensors(arrays: Mapping[str, np.ndarray], *names: str) -> list[Tensor]:
    return [torch.from_numpy(arrays[name]) for name in names]


def apart(found: Tensor, expected: np.ndarray | Tensor) -> float:
    """The largest difference; the shapes must be the same."""
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max())
