"""OFA's decoder, for whole captions at once (training, scoring) and a position at a time (generation).

Shapes: M source rows, K decoder rows that share a source row, N = M·K decoder rows, T caption positions, S source
positions, H heads, D width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.ofa.attention import (
    RelativePositionTable,
    image_bucket_count,
    image_buckets,
    padding_bias,
    position_bias,
    token_buckets,
)
from models.ofa.configuration import OFAConfig
from models.ofa.dropout import Dropout
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.layers import (
    KeysValues,
    LayerCache,
    OFADecoderLayer,
    OutputProjection,
    embed_with,
    in_compute_dtype,
)
from models.ofa.mixed_adapters import in_rows
from models.ofa.resnet import STRIDE


@dataclass
class Source:
    """All that the decoder computes of an encoded source, once, whatever the number of steps and of candidates.

    Attributes:
        keys_values: of each layer, keys and values [M, H, S, E].
        self_bias: of each layer, the bias among caption positions [1, H, T, T], causal.
        cross_bias: bias of caption positions towards the source, padding included, [M, H, T, S]; [1, H, T, S] where
            nothing is padded.
        adapters: M names, the adapter of each source row; None where all have the same, or none.
    """

    keys_values: list[KeysValues]
    self_bias: list[Tensor]
    cross_bias: Tensor
    adapters: tuple[str, ...] | None = None

    def keep(self, rows: Tensor) -> "Source":
        """Only the source rows named."""
        kept = [(keys[rows], values[rows]) for keys, values in self.keys_values]
        cross_bias = self.cross_bias if self.cross_bias.shape[0] == 1 else self.cross_bias[rows]
        adapters = None if self.adapters is None else tuple(self.adapters[row] for row in rows.tolist())
        return Source(kept, self.self_bias, cross_bias, adapters)


class OFADecoder(nn.Module):
    image_rp_bucket: Tensor
    token_rp_bucket: Tensor
    image_position_idx: Tensor
    _gradient_checkpointing_func: Callable  # set by transformers, with `gradient_checkpointing`

    def __init__(self, config: OFAConfig, embed_tokens: nn.Embedding):
        super().__init__()
        width, heads = config.d_model, config.decoder_attention_heads
        self.config = config
        self.heads = heads
        self.gradient_checkpointing = False
        self.pos_scaling = (width / heads * config.attn_scale_factor) ** -0.5
        self.embed_scale = width**0.5 if config.scale_embedding else 1.0
        self.dropout = Dropout(config.dropout)
        self.embed_tokens = embed_tokens
        self.own_embeddings: Tensor | None = None  # as the encoder's
        self.adapter_rows: Any = None
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_position_embeddings + 2, width)
        self.pos_ln = nn.LayerNorm(width)
        self.self_pos_q_linear = nn.Linear(width, width)
        self.self_pos_k_linear = nn.Linear(width, width)
        self.cross_pos_q_linear = nn.Linear(width, width)
        self.cross_pos_k_linear = nn.Linear(width, width)
        rates = torch.linspace(0, config.decoder_drop_path_rate, config.decoder_layers, device="cpu").tolist()
        self.layers = nn.ModuleList(OFADecoderLayer(config, rate) for rate in rates)
        self.layer_norm = nn.LayerNorm(width)
        self.output_projection = OutputProjection(width, config.vocab_size, config.silent_tokens or ())
        tables = 1 if config.share_attn_bias else config.decoder_layers
        self.token_rel_pos_table_list = nn.ModuleList(
            RelativePositionTable(2 * config.token_bucket_size - 1, heads) for _ in range(tables)
        )
        self.register_buffer("token_rp_bucket", token_buckets(config.token_bucket_size))
        self._init_image_code_parts(tables)

    def _init_image_code_parts(self, tables: int) -> None:
        """What OFA uses to *draw* images as `<code_i>` tokens: kept so that checkpoints load whole, never run here."""
        config, width = self.config, self.config.d_model
        self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.code_layernorm_embedding = nn.LayerNorm(width)
        self.image_rel_pos_table_list = nn.ModuleList(
            RelativePositionTable(image_bucket_count(config.image_bucket_size), self.heads) for _ in range(tables)
        )
        self.register_buffer("image_rp_bucket", image_buckets(config.image_bucket_size))
        self.register_buffer("image_position_idx", image_code_positions(config))
        for part in (
            self.embed_image_positions,
            self.image_pos_ln,
            self.code_layernorm_embedding,
            self.image_rel_pos_table_list,
        ):
            part.requires_grad_(False)  # no gradient ever reaches them, and data-parallel training must know

    def prepare(
        self, encoded: OFAEncoderOutput, length: int, rows: Tensor | None = None, *, causal: bool = True
    ) -> Source:
        """Compute a `Source` for captions of up to `length` positions.

        Args:
            rows: [N] int64: makes one source row a caption (row `rows[n]` of the encoder for caption n), for captions
                that are spread unevenly over the sources; None keeps one row a source.
            causal: mask later positions in `self_bias`.
        """
        with in_rows(self, encoded.adapters):
            keys_values = [layer.cross_attn.keys_values(encoded.last_hidden_state) for layer in self.decoder_layers]
        positions = self.pos_ln(self.embed_positions.weight[:length][None])
        query = self.cross_pos_q_linear(positions)
        key = self.cross_pos_k_linear(encoded.position_embedding[:1])
        cross_bias = position_bias(query, key, self.heads, self.pos_scaling)
        if encoded.padding_mask is not None:
            cross_bias = cross_bias + padding_bias(encoded.padding_mask, cross_bias.dtype)
        source = Source(keys_values, self._self_biases(positions, causal), cross_bias, encoded.adapters)
        return source if rows is None else source.keep(rows)

    def _self_biases(self, positions: Tensor, causal: bool) -> list[Tensor]:
        length = positions.shape[1]
        absolute = position_bias(
            self.self_pos_q_linear(positions), self.self_pos_k_linear(positions), self.heads, self.pos_scaling
        )
        if causal:
            later = torch.ones(length, length, dtype=torch.bool, device=positions.device).triu(1)
            absolute = absolute.masked_fill(later, float("-inf"))
        buckets = self.token_rp_bucket[:length, :length]
        tables = self.token_rel_pos_table_list
        return [absolute + tables[i % len(tables)](buckets).permute(2, 0, 1) for i in range(len(self.layers))]

    def forward(self, tokens: Tensor, source: Source) -> Tensor:
        """Teacher forcing: caption tokens [N, T] (bos first) -> hidden states [N, T, D].

        N is a multiple K of the source's rows; the K captions of a source row stand together and share its keys and
        values. T must not exceed the length that the source was prepared for.
        """
        with in_rows(self, source.adapters):
            return self.read(tokens, source)

    def read(self, tokens: Tensor, source: Source) -> Tensor:
        """`forward`, whosever the rows are."""
        positions = tokens.shape[1]
        padding = tokens.eq(self.config.pad_token_id)
        x = self.embed(tokens, torch.arange(positions, device=tokens.device))
        blocked = padding_bias(padding, x.dtype)
        sharing = tokens.shape[0] // source.keys_values[0][0].shape[0]
        cross_bias = source.cross_bias[:, :, :positions].repeat(1, 1, sharing, 1)
        for layer, self_bias, cross in zip(self.layers, source.self_bias, source.keys_values, strict=True):
            bias = self_bias[:, :, :positions, :positions] + blocked
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(layer.__call__, x, bias, cross, cross_bias)
            else:
                x = layer(x, bias, cross, cross_bias)
        return self.layer_norm(x)

    def step(self, tokens: Tensor, position: int, source: Source, caches: list[LayerCache]) -> Tensor:
        """The next-token logits [N, V] after `tokens` [N] at `position`, given the caches of the earlier positions."""
        with in_rows(self, source.adapters):
            return self.output_projection(self._step(tokens, position, source, caches))

    def _step(self, tokens: Tensor, position: int, source: Source, caches: list[LayerCache]) -> Tensor:
        x = self.embed(tokens[:, None], torch.full((1,), position, device=tokens.device))
        seen = position + 1
        cross_bias = source.cross_bias[:, :, position:seen]
        for layer, self_bias, cross, cache in zip(
            self.layers, source.self_bias, source.keys_values, caches, strict=True
        ):
            x = layer(x, self_bias[:, :, position:seen, :seen], cross, cross_bias, cache)
        return self.layer_norm(x[:, 0])

    @property
    def decoder_layers(self) -> list[OFADecoderLayer]:
        """`layers`, with the type of its elements."""
        return list(self.layers)  # type: ignore[arg-type]

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens [N, T] at `positions` [T] -> [N, T, D]."""
        x = self.embed_scale * embed_with(self.embed_tokens, self.own_embeddings, tokens)
        if self.config.entangle_position_embedding and not self.config.disable_entangle:
            x = x + self.embed_positions(positions)
        return in_compute_dtype(self.dropout(self.layernorm_embedding(x)))

    def caches(self, rows: int, length: int, like: Tensor) -> list[LayerCache]:
        """Empty caches for `rows` captions of up to `length` positions, of the dtype and device of `like`."""
        width = self.config.d_model // self.heads
        return [LayerCache(rows, self.heads, length, width, like) for _ in self.layers]


def image_code_positions(config: OFAConfig) -> Tensor:
    """Positions of the image codes of a drawn image in the image grid, and 768 places past it, [1 + window² + 768]."""
    window = config.code_image_size // (STRIDE // 2)
    rows = torch.arange(window)
    inside = rows[:, None] * config.image_bucket_size + rows + 1
    return torch.cat([torch.zeros(1, dtype=torch.long), inside.flatten(), torch.full((768,), 1024)])
