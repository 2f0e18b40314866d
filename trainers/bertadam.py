"""BertAdam: Adam as BERT was trained with it and LXMERT after it.

For gradient g, rate lr and this parameter's own count t of updates, from 0:

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²
    p = p - lr s(t / T) (m / (sqrt(v) + eps) + decay p)

There is no bias correction, eps is outside the root, the decay is not part of the moments and reaches every parameter,
biases and norms included. A parameter that had no gradient is not touched at all, and begins its own warm-up with the
first that it has.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainers.schedules import Schedule

# Pieces whose four tensors fit a processor's cache: large weights would otherwise go through memory a dozen times.
_CPU_PIECE = 2**17


class BertAdam(Optimizer):
    """Args:

    params: tensors or groups of them, as for every optimizer of torch.
    lr: the peak rate; a group's `lr` may be changed between updates.
    schedule: the factor of the rate at a share of `total_steps`; None is no schedule (nor warm-up).
    total_steps: T above, needed by a schedule.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        schedule: Schedule | None = None,
        total_steps: int | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        if lr < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"BertAdam: lr {lr}, eps {eps} and betas {betas} must not be negative, betas under 1")
        if schedule is not None and not (total_steps and total_steps > 0):
            raise ValueError(f"BertAdam: a schedule needs total_steps, the number of updates; it is {total_steps}")
        self.schedule = schedule
        self.total_steps = total_steps
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def rate(self, group: dict[str, Any], count: int) -> float:
        """The rate of a parameter's update number `count`, from 0."""
        if self.schedule is None:
            return group["lr"]
        assert self.total_steps is not None
        return group["lr"] * self.schedule(count / self.total_steps)

    def next_rates(self) -> list[float]:
        """The rate that each parameter's next update will have; a parameter without any yet has that of its first."""
        return [
            self.rate(group, int(self.state[p]["step"]) if self.state[p] else 0)
            for group in self.param_groups
            for p in group["params"]
        ]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            ready = [p for p in group["params"] if p.grad is not None]
            for p in ready:
                if not self.state[p]:
                    moments = {name: torch.zeros_like(p, memory_format=torch.preserve_format) for name in ("m", "v")}
                    self.state[p] = {"step": torch.zeros(()), **moments}
            counts = {id(p): int(self.state[p]["step"]) for p in ready}
            for count in sorted(set(counts.values())):
                self._update(group, [p for p in ready if counts[id(p)] == count], self.rate(group, count))
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], rate: float) -> None:
        """One update of parameters that have the same rate."""
        rows = [(p, p.grad, self.state[p]["m"], self.state[p]["v"]) for p in params]
        for weights, grads, ms, vs in _batches(rows):
            _adam(weights, grads, ms, vs, rate, group["betas"], group["eps"], group["weight_decay"])
        for p in params:
            self.state[p]["step"] += 1


def _batches(rows: list[tuple[Any, ...]]) -> Iterator[list[list[Tensor]]]:
    """The tensors in batches, each a list of parameters, of gradients and of both moments.

    An accelerator gets all at once, to start few kernels; a processor one piece at a time.
    """
    fast = [row for row in rows if row[0].device.type != "cpu"]
    if fast:
        yield [list(column) for column in zip(*fast, strict=True)]
    for row in rows:
        if row[0].device.type == "cpu":
            flat = [t.view(-1) for t in row] if all(t.is_contiguous() for t in row) else None
            for piece in zip(*(t.split(_CPU_PIECE) for t in flat), strict=True) if flat else [row]:
                yield [[t] for t in piece]


def _adam(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    vs: list[Tensor],
    rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    torch._foreach_lerp_(ms, grads, 1 - betas[0])
    torch._foreach_mul_(vs, betas[1])
    torch._foreach_addcmul_(vs, grads, grads, 1 - betas[1])
    updates = torch._foreach_sqrt(vs)
    torch._foreach_add_(updates, eps)
    torch._foreach_reciprocal_(updates)
    torch._foreach_mul_(updates, ms)
    if decay:
        torch._foreach_add_(updates, params, alpha=decay)
    torch._foreach_add_(params, updates, alpha=-rate)
