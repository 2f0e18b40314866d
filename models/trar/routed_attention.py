"""Attention over several spans at once: the weighted sum of one masked softmax a span, from one score matrix.

The spans are nested, so the softmax over the widest one holds all the others: a narrower one is its part inside the
window, divided by that part's sum. Scores and exponentials are therefore computed once, and nothing of N x N numbers is
kept for the backward pass, which recomputes them. On a CPU the images are taken a few at a time, so that the
intermediate numbers stay in the cache.

Shapes: B images, H heads, N cells, E width of a head, R spans. A query whose span holds no real key attends to all N
cells alike, as the public code does.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.trar.elementwise import draw, dropout_factor
from models.trar.masked_attention import MASKED

#: A part of the widest softmax smaller than this has lost digits: its own softmax is computed then.
_FLOOR = 1e-20
#: Scores that a CPU handles at once: a megabyte of float32, which is what one core's cache holds.
_AT_ONCE = 2**18


def routed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alphas: Tensor,
    outside: Tensor,
    padding: Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Σᵣ alphas[:, r] · dropout(softmax(query keyᵀ / √E masked by span r)) · value -> [B, H, N, E].

    Args:
        query, key, value: [B, H, N, E].
        alphas: [B, R], the weight of each span.
        outside: [R, N, N] bool, True outside a span; the spans are nested.
        padding: [B, N] bool, True at cells that are not there; None: all are.
        dropout: each span draws its own, as published; the rate is rounded to 1/256.
    """
    seed = int(torch.randint(2**62, ())) if dropout else 0
    return _RoutedAttention.apply(query, key, value, alphas, outside, padding, dropout, seed)


def span_maps(query: Tensor, key: Tensor, outside: Tensor, padding: Tensor | None = None) -> Tensor:
    """The attention weights of every span, [B, R, H, N, N], with a softmax each: for pictures and as a reference."""
    scores = (query @ key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    hidden = outside[None] if padding is None else outside[None] | padding[:, None, None, :]
    return scores[:, None].masked_fill(hidden[:, :, None], MASKED).softmax(-1)


@dataclass(frozen=True)
class _Part:
    """A few images, and what their spans need."""

    rows: slice
    inside: Tensor  # [R, N, N] of the scores' type: 1 inside a span
    hidden: Tensor | None  # broadcasts to [b, 1, N, N]: what the widest span does not see
    blocked: Tensor | None  # [R, b, 1, N, 1]: queries whose span holds no real key
    widest: int

    def weights(self, scores: Tensor) -> list[Tensor]:
        """Scores [b, H, N, N], which are overwritten -> the softmax of each of the R spans."""
        if self.hidden is not None:
            scores = scores.masked_fill_(self.hidden, MASKED)
        base = scores.softmax(-1)
        return [base if span == self.widest else self._narrower(span, base, scores) for span in range(len(self.inside))]

    def _narrower(self, span: int, base: Tensor, scores: Tensor) -> Tensor:
        part = base * self.inside[span]
        total = part.sum(-1, keepdim=True)
        if self.blocked is not None:
            total = total.masked_fill(self.blocked[span], 1.0)
        if bool((total < _FLOOR).any()):
            part = scores.masked_fill(self.inside[span] == 0, MASKED).softmax(-1)
        else:
            part /= total
        return part if self.blocked is None else part.masked_fill_(self.blocked[span], 1.0 / part.shape[-1])


def _parts(query: Tensor, outside: Tensor, padding: Tensor | None, dtype: torch.dtype) -> Iterator[_Part]:
    """The images, a few at a time on a CPU and all at once elsewhere."""
    images, heads, cells, _ = query.shape
    inside = (~outside).to(dtype)
    widest = int(outside.flatten(1).sum(1).argmin())
    window = outside[widest] if bool(outside[widest].any()) else None
    blocked = None
    if padding is not None:
        blocked = (inside @ (~padding).to(dtype).T == 0).transpose(1, 2)[:, :, None, :, None]
    at_once = max(1, _AT_ONCE // (heads * cells * cells)) if query.device.type == "cpu" else images
    for start in range(0, images, at_once):
        rows = slice(start, start + at_once)
        hidden = window
        if padding is not None:
            here = padding[rows, None, None, :]
            hidden = here if window is None else here | window
        yield _Part(rows, inside, hidden, None if blocked is None else blocked[:, rows], widest)


def _kept(part: _Part, scores: Tensor, rate: float, seed: int) -> tuple[Tensor | None, float]:
    """What dropout keeps of the weights of `part`, [R, b, H, N, N] uint8, and the factor that makes up for the rest.

    It depends on `seed` and the images alone, so that the backward pass draws the same again.
    """
    if not rate:
        return None, 1.0
    shape = (len(part.inside), *scores.shape)
    return draw(shape, rate, scores.device, seed + part.rows.start), dropout_factor(rate)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        alphas: Tensor,
        outside: Tensor,
        padding: Tensor | None,
        rate: float,
        seed: int,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, alphas, outside, padding)
        ctx.rate, ctx.seed = rate, seed
        mixed = torch.empty_like(value)
        with torch.autocast(query.device.type, enabled=False):
            for part in _parts(query, outside, padding, _exact(query.dtype)):
                weights, kept, factor = _recompute(part, query, key, rate, seed)
                share = alphas[part.rows].to(weights[0].dtype) * factor
                mixed[part.rows] = _combine(weights, kept, share).to(value.dtype) @ value[part.rows]
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, alphas, outside, padding = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(x) for x in (query, key, value))
        to_alphas = torch.empty_like(alphas)
        scale = 1 / math.sqrt(query.shape[-1])
        with torch.autocast(query.device.type, enabled=False):
            for part in _parts(query, outside, padding, _exact(query.dtype)):
                rows = part.rows
                weights, kept, factor = _recompute(part, query, key, ctx.rate, ctx.seed)
                share = alphas[rows].to(weights[0].dtype) * factor
                mix = _combine(weights, kept, share).to(value.dtype)
                to_value[rows] = mix.transpose(-1, -2) @ grad[rows]
                to_mix = (grad[rows] @ value[rows].transpose(-1, -2)).to(weights[0].dtype)
                to_scores, by_span = _to_scores(part, weights, kept, share, to_mix)
                to_alphas[rows] = (by_span * factor).to(alphas.dtype)
                to_scores = (to_scores * scale).to(query.dtype)
                to_query[rows] = to_scores @ key[rows]
                to_key[rows] = to_scores.transpose(-1, -2) @ query[rows]
        return to_query, to_key, to_value, to_alphas, None, None, None, None


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type that weights are computed in: half precision is not enough for them."""
    return torch.promote_types(dtype, torch.float32)


def _recompute(
    part: _Part, query: Tensor, key: Tensor, rate: float, seed: int
) -> tuple[list[Tensor], Tensor | None, float]:
    """The weights of each span for the images of `part`, what dropout keeps of them, and its factor."""
    scores = (query[part.rows] / math.sqrt(query.shape[-1])) @ key[part.rows].transpose(-1, -2)
    weights = part.weights(scores.to(_exact(scores.dtype)))
    return weights, *_kept(part, weights[0], rate, seed)


def _combine(weights: list[Tensor], kept: Tensor | None, share: Tensor) -> Tensor:
    """Σᵣ share[:, r] · kept[r] · weights[r] -> [b, H, N, N]."""
    total = torch.zeros_like(weights[0])
    for span, weight in enumerate(weights):
        weight = weight if kept is None else kept[span].to(weight.dtype).mul_(weight)
        total.addcmul_(weight, share[:, span, None, None, None])
    return total


def _to_scores(
    part: _Part, weights: list[Tensor], kept: Tensor | None, share: Tensor, to_mix: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the scores, [b, H, N, N], and of the shares, [b, R], from that of the combined weights."""
    to_scores = torch.zeros_like(to_mix)
    by_span = []
    for span, weight in enumerate(weights):
        arriving = to_mix if kept is None else kept[span].to(to_mix.dtype).mul_(to_mix)
        through = weight * arriving
        row = through.sum(-1, keepdim=True)
        by_span.append(row.sum((1, 2, 3)))
        through.addcmul_(weight, row, value=-1)
        if part.blocked is not None:  # a uniform row depends on no score
            through.masked_fill_(part.blocked[span], 0.0)
        to_scores.addcmul_(through, share[:, span, None, None, None])
    return to_scores, torch.stack(by_span, 1)
