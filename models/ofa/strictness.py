"""Whether weights fit a model, to the last name, and what exactly does not."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.ofa.configuration import OFAConfig
from models.ofa.conversion import first_names, size_differences

#: How far a table of buckets in a file may be from ours. Text buckets come from a rounded-up logarithm, which at a
#: bucket's edge may fall on either side on another machine; the model was then trained with the file's.
_BUCKET_TOLERANCE = {"token_rp_bucket": 1, "image_rp_bucket": 0}
#: Only the beginning of this one is ever read, and programs differ in how many places they append: ours is loaded.
_IMAGE_CODES = "image_position_idx"


def complete(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with what follows from the model itself: other names of tied weights, tables that are not learnt.

    Raises:
        ValueError: weights that are tied in the model differ in `state`.
    """
    full = dict(state)
    by_tensor: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        by_tensor.setdefault(id(tensor), []).append(name)
    for names in by_tensor.values():
        present = [name for name in names if name in state]
        for name in present[1:]:
            if not torch.equal(state[name], state[present[0]]):
                raise ValueError(
                    f"{present[0]} and {name} are one weight in OFA, but differ here: a model with untied embeddings "
                    "is not supported"
                )
        if present:
            full |= dict.fromkeys(names, state[present[0]])
    for name, own in model.named_buffers():
        learnt = name.endswith(("running_mean", "running_var"))
        if name.endswith(_IMAGE_CODES) or not (learnt or name in state):
            full[name] = own
    return full


def check_fit(model: nn.Module, state: Mapping[str, Tensor], config: OFAConfig | None = None) -> None:
    """See that `state` has every name of the model, no other, each of its shape.

    `config` is that of a whole OFA: the error then says which of its fields to set.

    Raises:
        ValueError: with what the difference means, where that is known, and the first ten names of each kind.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    reshaped = [
        f"{name} {list(shapes[name])} instead of {list(shape)}"
        for name, shape in own.items()
        if name in shapes and shapes[name] != shape
    ]
    lists = {
        "missing": [name for name in own if name not in shapes],
        "unexpected": [name for name in shapes if name not in own],
        "of another shape": reshaped,
    }
    found = [f"{len(names)} {kind}: {first_names(names)}" for kind, names in lists.items() if names]
    if found:
        meaning = [] if config is None else size_differences(state, config)
        raise ValueError("; ".join(["the weights do not fit the model", *meaning, *found]))


def check_tables(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """See that the tables in `state` that are computed, not learnt, are those of the model's configuration.

    Raises:
        ValueError: a table has other values.
    """
    for name, own in model.named_buffers():
        given, kind = state.get(name), name.rpartition(".")[2]
        if given is None:
            continue
        if kind == _IMAGE_CODES:
            shared = min(given.numel(), own.numel())
            if not torch.equal(given.flatten()[:shared], own[:shared]):
                raise ValueError(f"{name} is that of another code_image_size: set it in the OFAConfig")
        if kind in _BUCKET_TOLERANCE and (apart := int((given - own).abs().max())) > _BUCKET_TOLERANCE[kind]:
            raise ValueError(f"{name} is not OFA's table of relative positions (values up to {apart} apart)")
