"""OFA's encoder: image patches and prompt tokens in one sequence, patches first.

Shapes: B images, M prompts (several may look at one image), P patches, L prompt tokens, S = P + L, H heads, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from models.ofa.attention import (
    RelativePositionTable,
    image_bucket_count,
    image_buckets,
    padding_bias,
    position_bias,
    token_buckets,
)
from models.ofa.configuration import OFAConfig
from models.ofa.dropout import ChannelDropout, Dropout
from models.ofa.layers import OFAEncoderLayer, embed_with, in_compute_dtype
from models.ofa.mixed_adapters import in_rows
from models.ofa.resnet import image_tower

TEXT, IMAGE = 0, 1  # rows of the type embedding


@dataclass
class OFAEncoderOutput(ModelOutput):
    """What the decoder needs of the source.

    Attributes:
        last_hidden_state: [M, S, D].
        padding_mask: [M, S] bool, True where nothing may be attended to; None where all may be.
        position_embedding: [M, S, D] normed positions; every row is the same (a view, not a copy).
        starts: [M] int64, the token that captions of a row start with; None for bos.
        adapters: M names, the adapter of each row (`mixed_adapters`); None where the model has one for all, or none.
    """

    last_hidden_state: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    padding_mask: Tensor | None = None
    position_embedding: Tensor = None  # type: ignore[assignment]
    starts: Tensor | None = None
    adapters: tuple[str, ...] | None = None

    def rows(self, rows: Tensor, starts: Tensor | None = None) -> "OFAEncoderOutput":
        """The rows named [m], in this order, whose captions start with `starts` [m], or as they would here."""
        return OFAEncoderOutput(
            last_hidden_state=self.last_hidden_state[rows],
            padding_mask=None if self.padding_mask is None else self.padding_mask[rows],
            position_embedding=self.position_embedding[:1].expand(len(rows), -1, -1),
            starts=self.starts[rows] if starts is None and self.starts is not None else starts,
            adapters=None if self.adapters is None else tuple(self.adapters[row] for row in rows.tolist()),
        )

    def first_tokens(self, bos: int, each: int) -> Tensor:
        """[M * `each`] int64: what `each` captions of every row start with."""
        if self.starts is None:
            rows = self.last_hidden_state.shape[0] * each
            return torch.full((rows,), bos, device=self.last_hidden_state.device)
        return self.starts.repeat_interleave(each)


class OFAEncoder(nn.Module):
    main_input_name = "input_ids"  # `generate` asks the encoder what to call it with
    image_rp_bucket: Tensor
    token_rp_bucket: Tensor
    _gradient_checkpointing_func: Callable  # set by transformers, with `gradient_checkpointing`

    def __init__(self, config: OFAConfig, embed_tokens: nn.Embedding):
        super().__init__()
        width, heads = config.d_model, config.encoder_attention_heads
        self.config = config
        self.heads = heads
        self.gradient_checkpointing = False
        self.pos_scaling = (width / heads * config.attn_scale_factor) ** -0.5
        self.embed_scale = width**0.5 if config.scale_embedding else 1.0
        self.dropout = Dropout(config.dropout)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_tokens = embed_tokens
        #: [E, D] of ids from the vocabulary's size on; no part of the model, and None but for a while.
        self.own_embeddings: Tensor | None = None
        self.adapter_rows: Any = None  # where rows have adapters of their own: `mixed_adapters.AdapterRows`
        self.type_embedding = nn.Embedding(2, width)
        self.embed_images = image_tower(config.resnet_type, config.resnet_drop_path_rate)
        self.feature_dropout = ChannelDropout(config.feature_dropout)
        self.image_proj = nn.Linear(self.embed_images.channels, width)
        self.patch_layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_position_embeddings + 2, width)
        self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
        self.pos_ln = nn.LayerNorm(width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.pos_q_linear = nn.Linear(width, width)
        self.pos_k_linear = nn.Linear(width, width)
        rates = torch.linspace(0, config.encoder_drop_path_rate, config.encoder_layers, device="cpu").tolist()
        self.layers = nn.ModuleList(OFAEncoderLayer(config, rate) for rate in rates)
        self.layer_norm = nn.LayerNorm(width)
        tables = 1 if config.share_attn_bias else config.encoder_layers
        self.token_rel_pos_table_list = nn.ModuleList(
            RelativePositionTable(2 * config.token_bucket_size - 1, heads) for _ in range(tables)
        )
        self.image_rel_pos_table_list = nn.ModuleList(
            RelativePositionTable(image_bucket_count(config.image_bucket_size), heads) for _ in range(tables)
        )
        self.register_buffer("image_rp_bucket", image_buckets(config.image_bucket_size))
        self.register_buffer("token_rp_bucket", token_buckets(config.token_bucket_size))

    def forward(
        self,
        input_ids: Tensor,
        patch_images: Tensor | None = None,
        patch_masks: Tensor | None = None,
        image_index: Tensor | None = None,
        padded: bool | None = None,
        adapters: Sequence[str] | None = None,
        **_: object,
    ) -> OFAEncoderOutput:
        """Encode prompts, each with its image.

        Args:
            input_ids: [M, L] int64, padded with `pad_token_id`.
            patch_images: [B, 3, height, width] pixels, or what `embed_images` makes of them, [B, channels, rows,
                columns], or None for prompts without images.
            patch_masks: [B] bool, False for an image that is missing: its patches are then not attended to.
            image_index: [M] int64, the row of `patch_images` of each prompt; None when M == B, one each.
            padded: whether any token is padding or any image missing, as whoever makes the batch knows. False spares an
                [M, H, S, S] bias in every layer. None looks on a CPU; elsewhere to look is to wait, and it is taken for
                true.
            adapters: M names, the adapter of each prompt, in a model that has several (`mixed_adapters`).
        """
        with in_rows(self, adapters):
            encoded = self.encode(input_ids, patch_images, patch_masks, image_index, padded)
        encoded.adapters = None if adapters is None else tuple(adapters)
        return encoded

    def encode(
        self,
        input_ids: Tensor,
        patch_images: Tensor | None,
        patch_masks: Tensor | None,
        image_index: Tensor | None,
        padded: bool | None,
    ) -> OFAEncoderOutput:
        """`forward`, whosever the rows are."""
        padding = input_ids.eq(self.config.pad_token_id)
        text_positions = self.embed_positions.weight[: input_ids.shape[1]][None]
        x = self.embed_text(input_ids, text_positions)
        positions = self.pos_ln(text_positions)
        grid: Tensor | None = None
        if patch_images is not None:
            patches, image_positions, grid = self.embed_patches(patch_images)
            missing = torch.zeros(patches.shape[:2], dtype=torch.bool, device=x.device)
            if patch_masks is not None:
                missing = missing | ~patch_masks.view(-1, 1)
            if image_index is not None:
                patches, missing = patches[image_index], missing[image_index]
            x = torch.cat([patches, x], dim=1)
            padding = torch.cat([missing, padding], dim=1)
            positions = torch.cat([self.image_pos_ln(image_positions), positions], dim=1)
        if padded is None:
            padded = x.device.type != "cpu" or bool(padding.any())
        if padded:
            x = x.masked_fill(padding[..., None], 0.0)
        blocked = padding if padded else None
        x = self.run_layers(in_compute_dtype(x), positions, blocked, grid, input_ids.shape[1])
        return OFAEncoderOutput(
            last_hidden_state=self.layer_norm(x),
            padding_mask=blocked,
            position_embedding=positions.expand(x.shape[0], -1, -1),
        )

    def embed_text(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """Prompt tokens [M, L] -> [M, L, D]."""
        x = self.embed_scale * self.embed_ids(input_ids)
        if self.config.entangle_position_embedding:
            x = x + positions
        return self.dropout(self.layernorm_embedding(x + self.type_embedding.weight[TEXT]))

    def embed_ids(self, input_ids: Tensor) -> Tensor:
        """Ids [M, L] -> [M, L, D]; those beyond the vocabulary from `own_embeddings`."""
        return embed_with(self.embed_tokens, self.own_embeddings, input_ids)

    def embed_patches(self, patch_images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels or features -> patch embeddings [B, P, D], their positions [1, P, D] and ids in the grid [P].

        Features of a frozen tower may be computed once and given in place of pixels.
        """
        known = patch_images.shape[1] == self.embed_images.channels
        features = self.feature_dropout(patch_images if known else self.embed_images(patch_images))
        height, width = features.shape[-2:]
        side = self.config.image_bucket_size
        if max(height, width) > side:
            most = side * self.embed_images.stride
            raise ValueError(
                f"images of {patch_images.shape[-2]}x{patch_images.shape[-1]} pixels have {height}x{width} patches, "
                f"but this model's position table has {side} a side: use at most {most} pixels "
                "(data.patch_image_size)"
            )
        rows = torch.arange(height, device=features.device)
        grid = (rows[:, None] * side + torch.arange(width, device=features.device) + 1).flatten()
        positions = self.image_positions(grid, height, width)
        x = self.embed_scale * self.image_proj(features.flatten(2).transpose(1, 2))
        if self.config.entangle_position_embedding:
            x = x + positions
        x = self.patch_layernorm_embedding(x + self.type_embedding.weight[IMAGE])
        return self.dropout(x), positions, grid

    def image_positions(self, grid: Tensor, height: int, width: int) -> Tensor:
        """Embeddings of the patches' places [1, P, D], stretched from the pre-training size if the config says so."""
        side = self.config.orig_patch_image_size // self.embed_images.stride
        if not self.config.interpolate_position or height * width <= side * side:
            return self.embed_image_positions(grid)[None]
        rows = torch.arange(side, device=grid.device)
        known = self.embed_image_positions(rows[:, None] * self.config.image_bucket_size + rows + 1)
        known = known.permute(2, 0, 1)[None]
        return F.interpolate(known, size=(height, width), mode="bilinear").flatten(2).transpose(1, 2)

    def run_layers(
        self, x: Tensor, positions: Tensor, padding: Tensor | None, grid: Tensor | None, text: int
    ) -> Tensor:
        query, key = self.pos_q_linear(positions), self.pos_k_linear(positions)
        absolute = position_bias(query, key, self.heads, self.pos_scaling)
        blocked = None if padding is None else padding_bias(padding, x.dtype)
        for index, layer in enumerate(self.layers):
            bias = self.layer_bias(index, absolute, grid, text)
            if blocked is not None:
                bias = bias + blocked
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(layer.__call__, x, bias)
            else:
                x = layer(x, bias)
        return x

    def layer_bias(self, index: int, absolute: Tensor, grid: Tensor | None, text: int) -> Tensor:
        """Absolute bias [1, H, S, S] plus what layer `index` adds among the tokens and among the patches."""
        table = 0 if self.config.share_attn_bias else index
        bias = absolute.clone()
        tokens = self.token_rel_pos_table_list[table](self.token_rp_bucket[:text, :text])
        bias[..., -text:, -text:] += tokens.permute(2, 0, 1)
        if grid is not None:
            patches = self.image_rel_pos_table_list[table](self.image_rp_bucket[grid][:, grid])
            bias[..., : grid.numel(), : grid.numel()] += patches.permute(2, 0, 1)
        return bias
