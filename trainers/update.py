"""One optimizer update from its micro-batches, over all ranks.

The losses of all micro-batches are summed and divided by the number of units (tokens, candidates) over all ranks, then
the optimizer steps. So one rank with twice the batch, two ranks, and two accumulated micro-batches give the same
update.

An objective may ask for several steps on the same micro-batches, each with the same rate. A step whose loss or gradient
norm is not a finite number changes nothing, neither weights nor buffers, and ends its update.
"""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from trainers.batches import Batch, to_device
from trainers.distributed import World
from trainers.objective import Objective, TrainingModule
from trainers.sharding import gathered

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class UpdateResult:
    """`logs`: what to log, averaged over units and ranks; `skipped`: nothing was learnt, for a number was not finite;
    `flagged`: whether any rank raised the flag that it was called with."""

    logs: dict[str, float]
    skipped: bool
    flagged: bool


class Updater:
    """Makes updates of `inner.model`.

    Args:
        inner: model and objective.
        module: `inner`, or the data-parallel wrapper around it.
        optimizer: of its trained parameters.
        clip_norm: gradients are scaled down to this norm; 0 = never.
        dtype: of autocast, a key of `AUTOCAST`.
        frozen: parts that keep the mode of evaluation, such as running statistics, when the rest is trained.
    """

    def __init__(
        self,
        inner: TrainingModule,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        clip_norm: float,
        dtype: str,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        if dtype == "float16" and world.device.type != "cuda":
            raise ValueError('train.dtype = "float16" needs a GPU: use "bfloat16" or "float32" on a CPU')
        self.inner = inner
        self.module = module
        self.optimizer = optimizer
        self.world = world
        self.clip_norm = clip_norm
        self.frozen = frozen
        self.autocast_dtype = AUTOCAST[dtype]
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == "float16")

    @property
    def objective(self) -> Objective:
        return self.inner.objective

    def __call__(self, batches: Sequence[Batch], step: int, rate: float, flag: bool) -> UpdateResult:
        """Update number `step` (from 0) with learning rate `rate`; every rank gives its own micro-batches and flag."""
        self._set_mode()
        prepared: Iterable[Batch] = self._prepared(batches)
        objective = self.objective
        self.objective.update_begins(batches, self.world.sum)
        counted: Sequence[Batch] = batches
        if objective.counts_prepared or objective.updates > 1:
            prepared = counted = list(prepared)
        counts = [objective.count(batch, step) for batch in (counted if objective.counts_prepared else batches)]
        # Decided together: no rank may wait for one that has left.
        total, flagged = self.world.sum([sum(counts), float(flag)])
        results = [self._step(prepared, len(batches), step, rate, total)]
        while len(results) < objective.updates and not results[-1].skipped:
            results.append(self._step(map(self._again, counted), len(batches), step, rate, total))
        names = results[0].logs.keys()
        logs = {name: sum(result.logs[name] for result in results) / len(results) for name in names}
        return UpdateResult(logs, results[-1].skipped, flagged > 0)

    def _set_mode(self) -> None:
        self.objective.set_mode(self.inner.model)
        for part in self.frozen:
            part.eval()

    def _step(self, prepared: Iterable[Batch], number: int, step: int, rate: float, total: float) -> UpdateResult:
        """One step of the optimizer on `number` prepared micro-batches, over `total` units of all ranks."""
        buffers = [(buffer, buffer.clone()) for buffer in self.inner.buffers() if buffer.is_floating_point()]
        sums, broken, seconds = self._backward(prepared, number, step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        started = time.perf_counter()
        gradients = self._norm()
        added = self.world.total([*(value for pair in sums.values() for value in pair), broken])
        # The one time that a step waits for the device: whether it may be made is to be known before it is.
        *values, infinite, norm = torch.cat([added, gradients.double().reshape(1)]).tolist()
        seconds += time.perf_counter() - started  # what was only asked of the device before is done now
        # A scaler of float16 meets infinite norms on its way to a scale that fits, and skips those itself.
        skipped = infinite > 0 or not (math.isfinite(norm) or self.scaler.is_enabled())
        if skipped:
            for buffer, former in buffers:
                buffer.copy_(former)
        else:
            self.scaler.step(self.optimizer)
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        pairs = zip(sums, values[::2], values[1::2], strict=True)
        logs = {name: value / units for name, value, units in pairs if units}
        return UpdateResult(logs | {"backward_s": seconds, "lr": rate, "grad_norm": norm}, skipped, False)

    def _backward(
        self, prepared: Iterable[Batch], micro_batches: int, step: int, total: float
    ) -> tuple[dict[str, tuple[Tensor, float]], Tensor, float]:
        """The gradients of all micro-batches; name -> (sum, units) to log, how many losses are not finite, and seconds.

        Sums stay where they are until all are read at once.
        """
        logs: dict[str, tuple[Tensor, float]] = {}
        broken, seconds = torch.zeros((), dtype=torch.float64, device=self.world.device), 0.0
        for position, batch in enumerate(prepared):
            last = position == micro_batches - 1
            started = time.perf_counter()
            with contextlib.nullcontext() if last else self._without_synchronisation(), self.autocast():
                output = self.module(batch, step)
                # Data-parallel wrappers average over ranks what is to be summed.
                loss = output.loss_sum * (self.world.size / (total or 1.0))
                self.scaler.scale(loss).backward()
            broken += ~torch.isfinite(loss.detach())
            seconds += time.perf_counter() - started
            for name, (value, units) in output.logs.items():
                number = torch.as_tensor(value).detach().double()
                former = logs.get(name)
                logs[name] = (number, units) if former is None else (former[0] + number, former[1] + units)
        return logs, broken, seconds

    def _prepared(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """Micro-batches on the device as the objective wants them, one ahead: what it started for one (the scoring of
        candidates) goes on while it prepares the next."""
        ahead: Batch | None = None
        for batch in batches:
            with self.autocast():
                on_device = to_device(batch, self.world.device)
                prepare = partial(self.objective.prepare, self.inner.model, on_device)
                prepared = gathered(self.inner, prepare) if self.objective.asks_model else prepare()
            if ahead is not None:
                yield ahead
            ahead = prepared
        assert ahead is not None, "an update has a micro-batch"
        yield ahead

    def _again(self, batch: Batch) -> Batch:
        with self.autocast():
            return gathered(self.inner, partial(self.objective.again, self.inner.model, batch))

    def _norm(self) -> Tensor:
        """Clips the gradients; their norm before that."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm: Tensor = nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=self.autocast_dtype)

    def _without_synchronisation(self) -> contextlib.AbstractContextManager[Any]:
        module = self.module
        return module.no_sync() if isinstance(module, DistributedDataParallel) else contextlib.nullcontext()
