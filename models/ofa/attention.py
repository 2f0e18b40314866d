"""Attention with an additive position bias, and the buckets of OFA's relative positions.

Shapes: B rows, T queries, S keys, H heads, D width, E = D / H.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativePositionTable(nn.Embedding):
    """One learnt bias a bucket and a head; a class of its own because it starts from zeros, unlike word embeddings."""


class OFAAttention(nn.Module):
    """Multi-head attention whose heads are scaled by learnt factors (`c_attn`; NormFormer, arXiv:2110.09456).

    Keys and values are projected apart from the queries (`keys_values`), so that what does not change from one decoding
    step to the next is computed once.
    """

    def __init__(self, width: int, heads: int, dropout: float, scale_factor: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        # The bias of absolute positions carries the same factor: content and position share one softmax temperature.
        self.scaling = (width / heads * scale_factor) ** -0.5
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.c_attn = nn.Parameter(torch.ones(heads))

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, S, D] -> [B, H, S, E]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, S, D] -> keys and values, each [B, H, S, E]."""
        return self.split_heads(self.k_proj(states)), self.split_heads(self.v_proj(states))

    def forward(self, states: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """`states` [B, T, D] ask; `bias` broadcasts to [B, H, T, S] and is added to the scores -> [B, T, D]."""
        query = self.split_heads(self.q_proj(states))
        keys, values = keys_values
        mixed = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=bias.to(query.dtype),
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scaling,
        )
        mixed = mixed.transpose(1, 2) * self.c_attn.to(mixed.dtype).view(1, 1, -1, 1)
        return self.out_proj(mixed.flatten(2))

    def weights(self, states: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """What `forward` mixes values by, [B, H, T, S] of float32, each row of which sums to 1."""
        query = self.split_heads(self.q_proj(states))
        scores = query @ keys_values[0].transpose(-1, -2) * self.scaling + bias.to(query.dtype)
        return scores.float().softmax(-1)


def position_bias(query: Tensor, key: Tensor, heads: int, scaling: float) -> Tensor:
    """Bias of absolute positions: projected query positions [1, T, D] and key positions [1, S, D] -> [1, H, T, S]."""
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2) * scaling
    return query @ key.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)


def padding_bias(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """True at padding [B, S] -> [B, 1, 1, S]: 0 where attended, the most negative number of `dtype` elsewhere."""
    zeros = torch.zeros(padding.shape, dtype=dtype, device=padding.device)
    return zeros.masked_fill(padding, torch.finfo(dtype).min)[:, None, None, :]


def token_buckets(bucket_size: int, max_position: int = 1024) -> Tensor:
    """Bucket of every pair of text positions, [max_position, max_position] int64.

    Distances below `bucket_size / 2` have a bucket each; longer ones share logarithmically wider buckets, by direction.
    """
    position = torch.arange(max_position)
    distance = position[:, None] - position[None, :]
    half = bucket_size // 2
    length = distance.abs().clamp(min=half - 1)
    # float32 on purpose: the public tables were made so, and a ceil at a bucket's edge depends on the rounding.
    wide = torch.ceil(torch.log(length / half) / math.log((max_position - 1) / half) * (half - 1)).int() + half
    return torch.where(length <= half, distance, wide * distance.sign()) + bucket_size - 1


def image_buckets(bucket_size: int) -> Tensor:
    """Bucket of every pair of image positions, [bucket_size² + 1, bucket_size² + 1] int64.

    Position 0 stands for "no patch" and has three buckets of its own at the end of the table; position 1 + row *
    `bucket_size` + column is a patch, and two patches share a bucket when their row and column offsets agree.
    """
    span = 2 * bucket_size - 1
    row = torch.arange(bucket_size).repeat_interleave(bucket_size)
    column = torch.arange(bucket_size).repeat(bucket_size)
    offset = (row[:, None] - row + bucket_size - 1) * span + column[:, None] - column + bucket_size - 1
    buckets = torch.full((bucket_size**2 + 1, bucket_size**2 + 1), span * span + 1)
    buckets[1:, 1:] = offset
    buckets[0, :] = span * span
    buckets[:, 0] = span * span + 1
    buckets[0, 0] = span * span + 2
    return buckets


def image_bucket_count(bucket_size: int) -> int:
    """Rows of the image's relative-position table."""
    return (2 * bucket_size - 1) ** 2 + 3
