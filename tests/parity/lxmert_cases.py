"""Our LXMERT as a golden case of the original has it: its configuration, weights and inputs."""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.lxmert import LxmertConfig
from models.lxmert.modeling import LxmertBase
from models.lxmert.naming import original_names
from tests.parity.conftest import Golden, parity_weights

Model = TypeVar("Model", bound=LxmertBase)

#: Hidden states, logits and single losses, in float32 on a CPU.
TOLERANCE = 1e-5
_POSITIONS = 24


def config_of(golden: Golden, **fields: Any) -> LxmertConfig:
    """The configuration of a case, without dropout."""
    given = golden.json["config"]
    kind = given.get("bert_type", "bert")
    known: dict[str, Any] = {
        "vocab_size": given["vocab"],
        "hidden_size": given["hidden"],
        "num_attention_heads": given["heads"],
        "intermediate_size": given["inter"],
        "l_layers": given["l"],
        "x_layers": given["x"],
        "r_layers": given["r"],
        "visual_feat_dim": given["feat"],
        "num_object_labels": given["obj"],
        "num_attr_labels": given["attr"],
        "num_qa_labels": given["answers"],
        "max_position_embeddings": given.get("positions", _POSITIONS),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "causal_attention": "none" if kind == "bert" else kind,
        "cross_type": given.get("cross_type", "g2g"),
        "ft_large": bool(given.get("ft_large", 0)),
    }
    sizes = {ours: given[theirs] for theirs, ours in DICTIONARIES.items() if theirs in given}
    return LxmertConfig(**(known | sizes | fields))


DICTIONARIES = {"MV": "dictionary_boxes", "ML": "dictionary_words"}


def sized_by(golden: Golden, keys: dict[str, list[int]], **fields: Any) -> LxmertConfig:
    """`config_of` where sizes are only in the shapes of the original's keys."""
    found = {name.rpartition(".")[2]: shape for name, shape in keys.items()}
    sizes = {ours: found[theirs][1] for theirs, ours in DICTIONARIES.items() if theirs in found}
    positions = next(shape[0] for name, shape in keys.items() if name.endswith("position_embeddings.weight"))
    return config_of(golden, **({"max_position_embeddings": positions} | sizes | fields))


def filled(model: Model) -> Model:
    """`model` with the weights of the golden cases, in evaluation mode."""
    names = original_names(model)
    seen = set()
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.data_ptr() not in seen and tensor.is_floating_point():
                seen.add(tensor.data_ptr())
                tensor.copy_(parity_weights().tensor_for(names[name], tuple(tensor.shape)))
    return model.eval()


def shapes_of(model: LxmertBase) -> dict[str, list[int]]:
    """The original's names of a model's weights, and their shapes."""
    names = original_names(model)
    return {names[name]: list(tensor.shape) for name, tensor in model.state_dict().items()}


def feats_for(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.abs(np.random.RandomState(seed).standard_normal(shape)).astype(np.float32))


def boxes_for(seed: int, shape: tuple[int, ...]) -> Tensor:
    u = np.random.RandomState(seed + 1000).uniform(size=(*shape, 4)).astype(np.float32)
    low, high = np.minimum(u[..., :2], u[..., 2:]), np.maximum(u[..., :2], u[..., 2:])
    return torch.from_numpy(np.concatenate([low, high], -1))


def tensors(golden: Golden) -> dict[str, Tensor]:
    """The arrays of a case."""
    return {name: torch.from_numpy(array) for name, array in golden.arrays.items()}


def assert_close(found: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    found = found.detach().numpy() if isinstance(found, Tensor) else found
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=tolerance)
