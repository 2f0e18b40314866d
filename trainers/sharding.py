"""Parameters, gradients and optimizer state divided over ranks, for models that do not fit on one device.

FSDP2, PyTorch's `fully_shard` (after ZeRO, arXiv:1910.02054): a layer gathers its parameters when it runs and lets them
go again; what stands outside the layers (the ResNet, the embeddings) is gathered for a whole update. Checkpoints hold
whole tensors, as without sharding, so that a run may change from one to the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from trainers.distributed import World
from trainers.objective import TrainingModule

T = TypeVar("T")


@dataclass(frozen=True)
class ShardUnit:
    """A part of a model that gathers its parameters when it runs; `methods` are called besides its forward."""

    module: nn.Module
    methods: tuple[str, ...] = ()


def shard(module: TrainingModule, world: World, units: Iterable[ShardUnit]) -> None:
    """Divide the parameters of `module`, in place, over all ranks; inner units come before those that hold them."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for unit in units:
        fully_shard(unit.module, mesh=mesh)
        for method in unit.methods:
            register_fsdp_forward_method(unit.module, method)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "run")


def gathered(module: TrainingModule, task: Callable[[], T]) -> T:
    """`task()` with whole parameters on every rank, where they are sharded; all ranks take part.

    Within it no rank waits for another, however often each calls the model.
    """
    if not isinstance(module, FSDPModule):
        return task()
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]

    def with_whole_parameters() -> T:
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        return task()

    try:
        return module.run(with_whole_parameters)
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not module, recurse=False)
            part.reshard()


def whole_state(state: Any) -> Any:
    """A state dict with whole tensors, on the CPU, in place of shards; all ranks take part."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: whole_state(value) for key, value in state.items()}
    return [whole_state(value) for value in state] if isinstance(state, list) else state


def sharded_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The inverse: the optimizer's state with each tensor divided as its parameter is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    divided = {
        index: {name: like_parameter(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return state | {"state": divided}


def like_parameter(value: Any, parameter: Tensor) -> Any:
    """`value`, divided over ranks as `parameter` is where it is one of its shape."""
    if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value
