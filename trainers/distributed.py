"""The few collectives that training needs, for one process or many."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Who this process is among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over all ranks."""
        return list(values) if self.size == 1 else self.total(values).tolist()

    def total(self, values: Sequence[float | Tensor]) -> Tensor:
        """Likewise of numbers and tensors of one, as float64 [n] on this rank's device, for which nothing waits."""
        there = [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.device == self.device]
        known = [0.0 if i in there else float(value) for i, value in enumerate(values)]
        total = torch.tensor(known, dtype=torch.float64).to(self.device, non_blocking=True)
        if there:
            index = torch.tensor(there).to(self.device, non_blocking=True)
            found = [values[i].detach().double().reshape(()) for i in there]  # type: ignore[union-attr]
            total = total.index_copy(0, index, torch.stack(found))
        if self.size > 1:
            distributed.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def from_main(self, make: Callable[[], T], *, share: bool = True) -> T | None:
        """`make()` of rank 0, on every rank (None on the others where it cannot be shared).

        What it raises for a user's mistake is raised on every rank: none is left waiting for one that has gone.
        """
        value, error = None, None
        if self.is_main:
            try:
                value = make()
            except (ValueError, OSError) as caught:
                if self.size == 1:
                    raise
                error = caught
        error, shared = self.broadcast((error, value if share else None))
        if error is not None:
            raise error
        return value if self.is_main else shared

    def in_turn(self, make: Callable[[], T]) -> T:
        """`make()` of every rank, rank 0 first: the others find the files that it leaves."""
        first = self.from_main(make, share=False)
        return make() if first is None else first

    def share_buffers(self, module: nn.Module) -> None:
        """Give every rank rank 0's buffers, such as the running statistics of batch normalisation."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()


def start(rank: int, size: int, local_rank: int, timeout_s: float = 1800.0) -> World:
    """Join the process group that `torchrun` describes; without one (`size` 1) just choose the device.

    A rank that waits longer than `timeout_s` seconds for the others gives up with an error.
    """
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if size > 1 and not distributed.is_initialized():
        on_gpu = device.type == "cuda"
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            timeout=timedelta(seconds=timeout_s),
            device_id=device if on_gpu else None,  # which GPU is whose, said before the first collective has to guess
        )
    return World(rank, size, device)


def stop() -> None:
    """Leave the process group, after what still holds it (a trainer is a web of references) has been freed: a group
    that dies with the interpreter can take the process down with it."""
    gc.collect()
    if distributed.is_initialized():
        distributed.destroy_process_group()
