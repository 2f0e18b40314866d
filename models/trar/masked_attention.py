"""Scaled dot-product attention as TRAR masks it, and the number that its masks use."""

import math

from torch import Tensor, nn

#: What the public code puts in the place of a masked score: a row of such scores alone becomes uniform.
MASKED = -1e9


def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, dropout: nn.Module | None = None
) -> Tensor:
    """softmax(query keyᵀ / √E) value; a query that sees nothing attends to all keys alike -> [..., T, E].

    Args:
        query: [..., T, E]; key, value: [..., S, E].
        hidden: bool, broadcasts to [..., T, S]: True where a query must not look.
        dropout: of the weights.

    The softmax is in float32 at least: half precision cannot hold `MASKED`.
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    exact = scores.float() if scores.itemsize < 4 else scores
    if hidden is not None:
        exact = exact.masked_fill(hidden, MASKED)
    weights = exact.softmax(-1).to(value.dtype)
    return (weights if dropout is None else dropout(weights)) @ value
