"""What would wait for a device, counted on a CPU: operations whose result the program must have before it goes on."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")


class Waits(TorchDispatchMode):
    """Counts them by name while it is entered: numbers taken out of tensors, and shapes that depend on data, among them
    indexing by masks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITING or (name in ("index", "index_put", "index_put_") and _by_mask(args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


def look_rarely(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Let decoding look at what has ended as rarely as on a device."""
    for module in ("beams", "generation"):
        monkeypatch.setattr(f"models.ofa.{module}.look_every", lambda device: every)
