"""Attention over several spans at once: the weighted sum of one masked softmax a span, from one score matrix.

The spans are nested, so the softmax P over the widest one holds all others: a narrower one is its part inside the
window I, divided by that part's sum z. Scores and exponentials are therefore computed once. With K what dropout keeps,
the weights that meet the values are W = P ∘ M with M = Σᵣ (αᵣ / zᵣ) Kᵣ ∘ Iᵣ. Going back, from the gradient G of W:

    tᵣ = Σⱼ P ∘ G ∘ Kᵣ ∘ Iᵣ / zᵣ           each row's share of αᵣ's gradient
    P ∘ (G ∘ M - Σᵣ (αᵣ tᵣ / zᵣ) Iᵣ)        the gradient of the scores

Nothing of N x N numbers is kept for that: it is computed again. On a CPU a few images or heads are taken at a time, so
that the numbers in between stay in the cache. A query whose span holds no real key attends to all N cells alike, as the
public code does.

Shapes: B images, H heads, N cells, E width of a head, R spans.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.trar.elementwise import dropout_factor
from models.trar.masked_attention import MASKED
from models.trar.span_softmax import Part, SpanSoftmax, parts, span_softmax


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
    # Heads split from one linear layer lie strided in memory, and each product would copy them.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    return RoutedAttentionFunction.apply(query, key, value, alphas, outside, padding, dropout, seed)


def span_maps(query: Tensor, key: Tensor, outside: Tensor, padding: Tensor | None = None) -> Tensor:
    """The attention weights of every span, [B, R, H, N, N], with a softmax each: for pictures and as a reference."""
    scores = (query @ key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    hidden = outside[None] if padding is None else outside[None] | padding[:, None, None, :]
    return scores[:, None].masked_fill(hidden[:, :, None], MASKED).softmax(-1)


class RoutedAttentionFunction(torch.autograd.Function):
    """`routed_attention` with the rate and the seed of its dropout."""

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
        ctx.apart = []  # of each part, whether its spans were taken apart: the backward pass need not look again
        with torch.autocast(query.device.type, enabled=False):
            for part in parts(query, outside, padding, rate, seed):
                shares = _shares(part, query, key, alphas)
                ctx.apart.append(len(shares) > 1)
                weights = [spans.weights(share, spans.mix(share)) for spans, share in shares]
                mixed[part.at] = _sum(weights).to(value.dtype) @ value[part.at]
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, alphas, outside, padding = ctx.saved_tensors
        grad = grad.contiguous()
        to_query, to_key, to_value = (torch.empty_like(x) for x in (query, key, value))
        to_alphas = torch.zeros_like(alphas)
        factor, scale = dropout_factor(ctx.rate), 1 / math.sqrt(query.shape[-1])
        with torch.autocast(query.device.type, enabled=False):
            known = zip(parts(query, outside, padding, ctx.rate, ctx.seed), ctx.apart, strict=True)
            for part, apart in known:
                at = part.at
                to_weights = grad[at] @ value[at].transpose(-1, -2)
                weights, to_scores = [], []
                for spans, share in _shares(part, query, key, alphas, apart):
                    mix = spans.mix(share)
                    weights.append(spans.weights(share, mix))
                    through, to_share = spans.gradients(share, mix, to_weights.to(mix.dtype))
                    to_scores.append(through)
                    to_alphas[at[0], spans.part.spans] += (to_share * factor).to(alphas.dtype)
                to_value[at] = _sum(weights).to(value.dtype).transpose(-1, -2) @ grad[at]
                scores = _sum(to_scores).mul_(scale).to(query.dtype)
                to_query[at] = scores @ key[at]
                to_key[at] = scores.transpose(-1, -2) @ query[at]
        return to_query, to_key, to_value, to_alphas, None, None, None, None


def _shares(
    part: Part, query: Tensor, key: Tensor, alphas: Tensor, apart: bool | None = None
) -> list[tuple[SpanSoftmax, Tensor]]:
    """The softmaxes of a part, each with the weights [b, R] of its spans, in which the factor of dropout is."""
    scores = (query[part.at] / math.sqrt(query.shape[-1])) @ key[part.at].transpose(-1, -2)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # half precision is too coarse for weights
    share = alphas[part.at[0]].to(scores.dtype) * dropout_factor(part.rate)
    return [(spans, share[:, spans.part.spans]) for spans in span_softmax(part, scores, apart)]


def _sum(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors).sum(0)
