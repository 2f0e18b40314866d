"""Multi-head attention of LXMERT, fused, over words, boxes or a dictionary.

Shapes: B examples, T places, N rows that are held (see `layout`), E entries of a dictionary, H hidden.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.models.lxmert.modeling_lxmert import LxmertAttention, LxmertAttentionOutput

from models.lxmert.configuration import LxmertConfig
from models.lxmert.layout import Layout
from models.ofa.dropout import Dropout

#: What is told of a look into a dictionary: queries and keys, and where the queries are.
Listener = Callable[[Tensor, Tensor, Layout], None]


class Attention(LxmertAttention):
    """transformers' projections; the product of queries, keys and values is one fused call."""

    def __init__(self, config: LxmertConfig):
        super().__init__(config)
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        self._listeners: list[Listener] = []

    def on_dictionary(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with queries [heads, N, d] and keys [heads, E, d] of each look into a dictionary,
        and with the layout of the N queries.

        Returns:
            What ends that.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def forward(self, queries: Tensor, at: Layout, context: Tensor, of: Layout | None) -> Tensor:  # type: ignore[override]
        """What `queries`, states of the layout `at`, find in `context`, states of the layout `of`.

        `of` None: `context` is a dictionary [E, H], of which every query sees all. Its keys and values are made once,
        whatever the size of the batch.
        """
        return self.look(self.query(queries), at, context, of)

    def look(self, query: Tensor, at: Layout, context: Tensor, of: Layout | None) -> Tensor:
        """`forward` for queries that are projected already."""
        key, value = self.key(context), self.value(context)
        if of is None:
            for listener in self._listeners:
                listener(self._heads(query.reshape(1, -1, self.head_size))[0], self._heads(key[None])[0], at)
            found = self._product(query.reshape(1, -1, self.head_size), key[None], value[None], None)
            return found.view(query.shape)
        return at.hold(self._product(at.grid(query), of.grid(key), of.grid(value), of.key_mask))

    def _product(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, H] each, and the mask of keys [B, 1, 1, T] bool, to [B, T, H]."""
        query, key, value = (self._heads(x) for x in (query, key, value))
        rate = self.dropout.p if self.training else 0.0
        if rate and query.device.type == "cpu":
            # The fused kernel has no dropout there; ours draws its numbers eight at a time.
            scores = query @ key.transpose(-1, -2) / math.sqrt(self.attention_head_size)
            if mask is not None:
                scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            found = self.dropout(scores.softmax(-1)) @ value
        else:
            found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        return found.transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_attention_heads, self.attention_head_size)).transpose(1, 2)


class SelfAttention(nn.Module):
    """Attention to the stream's own states, and the residual connection; names as in transformers."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.self = Attention(config)
        self.output = LxmertAttentionOutput(config)

    def forward(self, states: Tensor, at: Layout) -> Tensor:
        return self.output(self.self(states, at, states, at), states)

    def of_first(self, states: Tensor, at: Layout) -> Tensor:
        """`forward` at the first row of each example alone: [B, 1, H]."""
        first = at.first(states)
        return self.output(self.self(first, at.firsts(), states, at), first)


class CrossAttention(nn.Module):
    """Attention to something else, and the residual connection; names as in transformers."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.att = Attention(config)
        self.output = LxmertAttentionOutput(config)

    def forward(self, states: Tensor, at: Layout, context: Tensor, of: Layout | None) -> Tensor:
        return self.output(self.att(states, at, context, of), states)
