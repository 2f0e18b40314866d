"""Norm, activation and dropout of TRAR, each with a backward pass that keeps little and makes few passes.

Shapes: D is the last axis.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_BYTE = 256
#: Under the root of the variance, so that a constant row divides by no zero; far below any variance that matters.
_TINY = 1e-30


class LayerNorm(nn.Module):
    """a · (x - mean) / (std + 1e-6) + b with the unbiased deviation (N - 1) and eps outside the root, as published.

    `nn.LayerNorm` is another function. A constant row gives b.
    """

    def __init__(self, width: int):
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(width))
        self.b_2 = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return _LayerNorm.apply(x, self.a_2, self.b_2)


class _LayerNorm(torch.autograd.Function):
    """torch's normalised rows times a factor a row, which turns their deviation into the unbiased one plus eps.

    With y = (x - mean) · r the rows that torch gives, r = 1 / biased deviation, c = √(D / (D - 1)) and eps = 1e-6:
    f = 1 / (c + eps · r), and the result is a · y · f + b.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        width = x.shape[-1]
        exact = x.to(torch.promote_types(x.dtype, gain.dtype))
        rows, _, inverse = torch.native_layer_norm(exact, [width], None, None, _TINY)
        correction = _correction(width)
        factor = 1.0 / (correction + 1e-6 * inverse)
        ctx.save_for_backward(rows, inverse, factor, gain)
        ctx.dtype = x.dtype
        return torch.addcmul(bias, rows * factor, gain).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, inverse, factor, gain = ctx.saved_tensors
        grad = grad.to(rows.dtype)
        weighted = rows * factor
        to_gain = (grad * weighted).flatten(0, -2).sum(0)
        to_bias = grad.flatten(0, -2).sum(0)
        inner = grad * gain
        along = (inner * rows).mean(-1, keepdim=True) * factor * _correction(rows.shape[-1])
        inner -= inner.mean(-1, keepdim=True)
        inner.addcmul_(rows, along, value=-1)
        return inner.mul_(inverse * factor).to(ctx.dtype), to_gain, to_bias


def _correction(width: int) -> float:
    """Unbiased over biased deviation; for a row of one number, whose deviation is undefined, as good as any."""
    return (width / (width - 1)) ** 0.5 if width > 1 else 1.0


class Dropout(nn.Dropout):
    """Dropout that remembers one byte a number; on a CPU eight numbers share a draw, the rate rounded to 1/256."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return _Dropped.apply(x, draw(x.shape, self.p, x.device), dropout_factor(self.p))


class ReluDropout(Dropout):
    """dropout(relu(x)) in one step: what comes out says where it was positive and kept, so nothing else is stored."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x.relu()
        return _ReluDropped.apply(x, draw(x.shape, self.p, x.device), dropout_factor(self.p))


def draw(shape: torch.Size | tuple[int, ...], rate: float, device: torch.device, seed: int | None = None) -> Tensor:
    """1 where dropout keeps a number, uint8 of `shape`; `dropout_factor(rate)` makes up for the others.

    A number has a byte of randomness: eight share a draw of 64 bits, and the rate is rounded to 1/256. With a `seed`
    the same comes out each time; without one, torch's own generator goes on.
    """
    count, dropped = math.prod(shape), _BYTE - _kept_of_256(rate)
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    draws = torch.empty(-(-count // 8), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    kept = draws.view(torch.uint8)[:count].view(shape)
    # Bytes from `dropped` on stay. Limiting to two neighbours is ten times as fast on a CPU as comparing.
    return kept.clamp_(dropped - 1, dropped).sub_(dropped - 1) if dropped else kept.fill_(1)


def dropout_factor(rate: float) -> float:
    return _BYTE / _kept_of_256(rate)


def _kept_of_256(rate: float) -> int:
    return max(1, _BYTE - round(_BYTE * rate))


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.factor = factor
        return kept.to(x.dtype).mul_(factor).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return kept.to(grad.dtype).mul_(ctx.factor).mul_(grad), None, None


class _ReluDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, factor: float) -> Tensor:
        out = x.relu().mul_(kept.to(x.dtype).mul_(factor))
        ctx.save_for_backward(out)
        ctx.factor = factor
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, out, 0).mul_(ctx.factor), None, None
