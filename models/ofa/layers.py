"""OFA's transformer blocks: pre-norm, with NormFormer's extra norms (arXiv:2110.09456).

Shapes: B rows, T positions of the block's own sequence, S source positions, K rows of the decoder that share one source
row, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from models.ofa.attention import OFAAttention
from models.ofa.configuration import OFAConfig
from models.ofa.dropout import Dropout
from models.ofa.resnet import DropPath

KeysValues = tuple[Tensor, Tensor]


def in_compute_dtype(x: Tensor) -> Tensor:
    """The residual stream as autocast computes it.

    Without this, float32 embeddings would keep the stream, and with it every norm, in float32 and cast it before each
    projection: on a CPU those casts cost as much as the projections.
    """
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class OutputProjection(nn.Linear):
    """Logits [..., V] of states [..., D]; those of `silent` ids are as good as minus infinity.

    The output's weights are the embedding's: a row that is learnt for reading must not be written by chance, nor take
    a share of what is written. The value is finite for the sake of losses that sum over the vocabulary.
    """

    NEVER = -1000.0

    def __init__(self, width: int, vocabulary: int, silent: Sequence[int] = ()) -> None:
        super().__init__(width, vocabulary, bias=False)
        self.silent = tuple(silent)

    def forward(self, states: Tensor) -> Tensor:
        logits = super().forward(states)
        for token in self.silent:
            logits[..., token] = self.NEVER
        return logits


class FeedForwardBlock(nn.Module):
    """Base of both blocks: a feed-forward part whose parameters live directly in the block, as in the checkpoints."""

    def _init_feed_forward(self, config: OFAConfig, hidden: int) -> None:
        self.fc1 = nn.Linear(config.d_model, hidden)
        self.fc2 = nn.Linear(hidden, config.d_model)
        self.ffn_layer_norm = nn.LayerNorm(hidden)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.activation = ACT2FN[config.activation_function]
        self.activation_dropout = Dropout(config.activation_dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.activation_dropout(self.activation(self.fc1(self.final_layer_norm(x))))
        return self.fc2(self.ffn_layer_norm(hidden))


def _attention(config: OFAConfig, heads: int) -> OFAAttention:
    return OFAAttention(config.d_model, heads, config.attention_dropout, config.attn_scale_factor)


class OFAEncoderLayer(FeedForwardBlock):
    def __init__(self, config: OFAConfig, drop_path: float):
        super().__init__()
        self.self_attn = _attention(config, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.self_attn_mid_layer_norm = nn.LayerNorm(config.d_model)
        self._init_feed_forward(config, config.encoder_ffn_dim)
        self.dropout = Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, T, D], bias broadcast to [B, H, T, T] -> [B, T, D]."""
        normed = self.self_attn_layer_norm(x)
        attended = self.self_attn(normed, self.self_attn.keys_values(normed), bias)
        x = x + self.drop_path(self.dropout(self.self_attn_mid_layer_norm(attended)))
        x = x + self.drop_path(self.dropout(self.feed_forward(x)))
        if x.dtype == torch.float16:  # long encoders overflow half precision: keep the sum inside its range
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x


class OFADecoderLayer(FeedForwardBlock):
    def __init__(self, config: OFAConfig, drop_path: float):
        super().__init__()
        self.self_attn = _attention(config, config.decoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.self_attn_mid_layer_norm = nn.LayerNorm(config.d_model)
        self.cross_attn = _attention(config, config.decoder_attention_heads)
        self.cross_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.cross_attn_mid_layer_norm = nn.LayerNorm(config.d_model)
        self._init_feed_forward(config, config.decoder_ffn_dim)
        self.dropout = Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        self_bias: Tensor,
        cross: KeysValues,
        cross_bias: Tensor,
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        """x [B·K, T, D] -> [B·K, T, D].

        `cross` holds the source's keys and values for B rows. When K > 1, the K rows that share a source row are folded
        into the query axis, so that keys and values are never repeated. With a `cache`, T is 1 and the block attends to
        what the cache holds of the earlier positions.
        """
        normed = self.self_attn_layer_norm(x)
        keys_values = self.self_attn.keys_values(normed)
        if cache is not None:
            keys_values = cache.append(*keys_values)
        attended = self.self_attn(normed, keys_values, self_bias)
        x = x + self.drop_path(self.dropout(self.self_attn_mid_layer_norm(attended)))

        rows, positions, _ = x.shape
        folded = self.cross_attn_layer_norm(x).reshape(cross[0].shape[0], -1, x.shape[-1])
        attended = self.cross_attn(folded, cross, cross_bias).reshape(rows, positions, -1)
        x = x + self.drop_path(self.dropout(self.cross_attn_mid_layer_norm(attended)))
        return x + self.drop_path(self.dropout(self.feed_forward(x)))


class LayerCache:
    """Keys and values of the positions decoded so far, in buffers allocated once for the longest caption.

    Args:
        rows, heads, length, width: shape of the buffers [rows, heads, length, width].
    """

    def __init__(self, rows: int, heads: int, length: int, width: int, like: Tensor):
        self.keys = like.new_zeros(rows, heads, length, width)
        self.values = like.new_zeros(rows, heads, length, width)
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> KeysValues:
        """Store one more position, [rows, H, 1, E], and return all positions so far."""
        end = self.filled + keys.shape[2]
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row `rows[i]` was; fewer rows than before shrink the cache."""
        if rows.shape[0] != self.keys.shape[0]:
            self.keys, self.values = self.keys[rows], self.values[rows]
            return
        self.keys[:, :, : self.filled] = self.keys[rows, :, : self.filled]
        self.values[:, :, : self.filled] = self.values[rows, :, : self.filled]


def embed_with(table: nn.Embedding, own: Tensor | None, ids: Tensor) -> Tensor:
    """Ids [M, L] -> [M, L, D]: of the table [V, D], and from id V on of `own` [E, D] where there is one."""
    if own is None:
        embedded: Tensor = table(ids)
        return embedded
    beyond = ids - table.num_embeddings
    return table(ids.where(beyond < 0, 0)).where((beyond < 0)[..., None], own[beyond.clamp(min=0)])
