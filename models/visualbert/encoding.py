"""VisualBERT's embeddings and layers, run over transformers' modules.

What is computed is the original's; how is ours: attention in one fused call, no work for padding, and the last layer
only at the positions that a head reads.

Shapes: B rows, T words, N regions, L = T + N, K words a region is aligned with, Q positions read, M positions that are
computed, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.visual_bert.modeling_visual_bert import (
    VisualBertEmbeddings,
    VisualBertLayer,
    VisualBertSelfAttention,
)

#: Added to the score of a masked position. Finite, so that a row with nothing to attend to has a value.
_MASKED = -10000.0


@dataclass(frozen=True)
class Packing:
    """Which positions of a padded batch are computed; `index` holds them as numbers below B * L, None where all are."""

    rows: int
    length: int
    index: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, read: Tensor | None = None) -> Self:
        """The real positions of `mask` [B, L], and those that are `read` [B, Q]."""
        kept = mask.bool()
        if read is not None:
            kept = kept.scatter(1, read, True)
        # The one look of a pass: how many there are tells whether all are.
        index = kept.flatten().nonzero().squeeze(1)
        return cls(mask.shape[0], mask.shape[1], None if len(index) == kept.numel() else index)

    def score_bias(self, mask: Tensor, dtype: torch.dtype) -> Tensor | None:
        """`score_bias` of the mask that this was made of; not looked at again where a position is left out."""
        return score_bias(mask, dtype) if self.index is None else _bias(mask, dtype)

    def pack(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [M, D]."""
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat.index_select(0, self.index)

    def unpack(self, x: Tensor) -> Tensor:
        """[M, D] -> [B, L, D], zeros where nothing was computed."""
        if self.index is not None:
            x = x.new_zeros(self.rows * self.length, x.shape[-1]).index_copy(0, self.index, x)
        return x.unflatten(0, (self.rows, self.length))


def embed(
    module: VisualBertEmbeddings,
    input_ids: Tensor,
    segment_ids: Tensor,
    projected: Tensor,
    box_types: Tensor | None,
    alignment: Tensor | None,
) -> Tensor:
    """Words [B, T] and projected regions [B, N, D] -> [B, T + N, D], normalised together."""
    positions = module.position_embeddings.weight
    words = module.word_embeddings(input_ids) + module.token_type_embeddings(segment_ids)
    words = words + positions[: input_ids.shape[1]]
    types = module.visual_token_type_embeddings
    # every region has the visual position 0; a region's order says nothing
    regions = projected + module.visual_position_embeddings.weight[0]
    regions = regions + (types.weight[0] if box_types is None else types(box_types))
    if alignment is not None:
        regions = regions + aligned_positions(positions, alignment[:, : projected.shape[1]])
    return module.dropout(module.LayerNorm(torch.cat([words, regions], dim=1)))


def aligned_positions(positions: Tensor, alignment: Tensor) -> Tensor:
    """Mean of the text positions that each region is aligned with; [B, N, K], padded with -1 -> [B, N, D].

    A region without a word gets zeros.
    """
    named = alignment >= 0
    rows = F.embedding(alignment.clamp(min=0), positions) * named.unsqueeze(-1).to(positions.dtype)
    return rows.sum(2) / named.sum(2, keepdim=True).clamp(min=1)


class Layer(VisualBertLayer):
    """transformers' layer over packed positions; one call a layer, so that what wraps a layer works.

    `forward(hidden [M, D], packing, bias)` -> [M, D]; with `read` [B, Q] -> [B, Q, D], at those positions alone.
    """

    def forward(  # type: ignore[override]
        self, hidden: Tensor, packing: Packing, bias: Tensor | None, read: Tensor | None = None
    ) -> Tensor:
        attention: VisualBertSelfAttention = self.attention.self
        asking = hidden if read is None else _at(packing.unpack(hidden), read)
        queries = attention.query(asking)
        queries = packing.unpack(queries) if read is None else queries
        keys, values = (packing.unpack(project(hidden)) for project in (attention.key, attention.value))
        attended = _attend(attention, queries, keys, values, bias)
        attended = packing.pack(attended) if read is None else attended
        return self.feed_forward_chunk(self.attention.output(attended, asking))


def run_layers(layers: Sequence[Layer], x: Tensor, mask: Tensor, *, skip_padding: bool = True) -> Tensor:
    """All positions of the layers' output; x [B, L, D], mask [B, L] -> [B, L, D].

    With `skip_padding` the output is 0 at padding; without it, it is what the original computes there.
    """
    packing = Packing.of(mask) if skip_padding else Packing(mask.shape[0], mask.shape[1], None)
    everything = skip_padding and packing.index is None
    bias = None if everything else packing.score_bias(mask, x.dtype)
    hidden = packing.pack(x)
    for layer in layers:
        hidden = layer(hidden, packing, bias)
    return packing.unpack(hidden)


def run_layers_for(layers: Sequence[Layer], x: Tensor, mask: Tensor, read: Tensor) -> Tensor:
    """The layers' output at the positions `read` [B, Q] alone -> [B, Q, D]."""
    packing = Packing.of(mask, read)
    bias = packing.score_bias(mask, x.dtype)
    hidden = packing.pack(x)
    for layer in layers[:-1]:
        hidden = layer(hidden, packing, bias)
    return layers[-1](hidden, packing, bias, read)


def score_bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to attention scores, [B, 1, 1, L]; None where nothing is masked."""
    return None if bool(mask.all()) else _bias(mask, dtype)


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return ((1 - mask.to(dtype)) * _MASKED)[:, None, None, :]


def _at(x: Tensor, places: Tensor) -> Tensor:
    """The rows of x [B, L, D] at `places` [B, Q] -> [B, Q, D]."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _attend(module: VisualBertSelfAttention, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None):
    """Queries [B, Q, D], keys and values [B, L, D] -> [B, Q, D]."""
    queries, keys, values = (_split(module, x) for x in (queries, keys, values))
    rate = module.dropout.p if module.training else 0.0
    bias = None if bias is None else bias.to(queries.dtype)
    if rate and queries.device.type == "cpu":
        # the fused kernel has no dropout there; ours draws eight numbers at once
        scores = queries @ keys.transpose(-1, -2) * module.attention_head_size**-0.5
        attended = module.dropout((scores if bias is None else scores + bias).softmax(-1)) @ values
    else:
        attended = F.scaled_dot_product_attention(queries, keys, values, bias, dropout_p=rate)
    return attended.transpose(1, 2).flatten(2)


def _split(module: VisualBertSelfAttention, x: Tensor) -> Tensor:
    """[B, L, D] -> [B, H, L, D / H]."""
    return x.unflatten(-1, (module.num_attention_heads, module.attention_head_size)).transpose(1, 2)
