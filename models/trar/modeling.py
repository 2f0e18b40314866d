"""The whole network: words and an image grid in, one number an answer out.

Shapes: B samples, T words, N = grid² cells, F width of a feature, D width, L decoder layers, R spans, A answers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.trar.blocks import AttentionPool
from models.trar.configuration import TrarConfig
from models.trar.elementwise import LayerNorm
from models.trar.layers import DecoderLayer, EncoderLayer, Route, used_weights
from models.trar.pixels import PixelTower, patch_of
from models.trar.spans import outside_spans, padding_of


@dataclass(frozen=True)
class TrarOutput:
    """What a TRAR network says of a batch.

    Attributes:
        logits: [B, A].
        alphas: [L, B, R], the weight of each span in each decoder layer; `used`: the same after `binarize`.
        language, image: [B, T, D] and [B, N, D], what the final pools see.
    """

    logits: Tensor
    alphas: Tensor
    used: Tensor
    language: Tensor
    image: Tensor


class Adapter(nn.Module):
    """The first linear layer of the features; its name tells the two published kinds of checkpoints apart."""

    NAMES = {"vqa": "frcn_linear", "clevr": "grid_linear"}

    def __init__(self, config: TrarConfig):
        super().__init__()
        self.name = self.NAMES[config.head]
        self.add_module(self.name, nn.Linear(config.tower_width or config.feature_width, config.hidden))

    def forward(self, features: Tensor) -> Tensor:
        return self.get_submodule(self.name)(features)


class Backbone(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.enc_list = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.dec_list = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))

    def forward(self, y: Tensor, x: Tensor, padding: Tensor, route: Route) -> tuple[Tensor, Tensor, Tensor]:
        """Words y [B, T, D], cells x [B, N, D] -> both after all layers, and the weights of the spans [L, B, R]."""
        for layer in self.enc_list:
            y = layer(y, padding)
        alphas = []
        for number, layer in enumerate(self.dec_list):
            x, weights = layer(x, y, padding, route, number)
            alphas.append(weights)
        return y, x, torch.stack(alphas)


class TrarModel(nn.Module):
    """TRAR; `config.evaluation` says how hard routing behaves outside training.

    `tau` is the temperature of hard routing: a training schedule sets it, a checkpoint keeps it. A fresh network has
    `config.tau_max`.
    """

    outside: Tensor

    def __init__(self, config: TrarConfig):
        super().__init__()
        self.config = config
        self.tau = config.tau_max
        self.embedding = nn.Embedding(config.words, config.word_width)
        self.lstm = nn.LSTM(config.word_width, config.hidden, batch_first=True)
        self.tower = (
            PixelTower(config.grid, patch_of(config.feature_width), config.tower_width) if config.tower_width else None
        )
        self.adapter = Adapter(config)
        self.backbone = Backbone(config)
        self.attflat_img = self._pool(config)
        self.attflat_lang = self._pool(config)
        self.proj_norm = LayerNorm(config.pooled_width)
        self.proj = nn.Linear(config.pooled_width, config.answers)
        self.register_buffer("outside", outside_spans(config.grid, config.orders), persistent=False)

    @staticmethod
    def _pool(config: TrarConfig) -> AttentionPool:
        return AttentionPool(config.hidden, config.pool_width, config.pooled_width, config.glimpses, config.dropout)

    def forward(
        self, features: Tensor, questions: Tensor, *, noise: Tensor | None = None, rows: Tensor | None = None
    ) -> TrarOutput:
        """Answer a batch.

        Args:
            features: [B, N, F], cells row by row; a cell of zeros is padding, and an image may have no other.
            questions: [B, T] word ids; 0 is padding, and a question may have nothing else.
            rows: [B], the row of `features` that each question is about, where several share one; None: each its own.
            noise: [L, B, R], used by hard routing in place of what it would draw, or not draw.

        Raises:
            ValueError: features or questions of another shape than the network's.
        """
        self._check(features, questions, len(features) if rows is None else len(rows))
        no_word, no_cell = padding_of(questions), padding_of(features)
        cells = self.adapter(features if self.tower is None else self.tower(features))
        if rows is not None:
            cells, no_cell = cells[rows], no_cell[rows]
        route = self.route(no_cell, noise)
        words, _ = self.lstm(self.embedding(questions))
        language, image, alphas = self.backbone(words, cells, no_word, route)
        pooled = self.attflat_lang(language, no_word) + self.attflat_img(image, no_cell)
        logits = self.proj(self.proj_norm(pooled))
        return TrarOutput(logits, alphas, used_weights(alphas, route), language, image)

    def route(self, padding: Tensor, noise: Tensor | None = None) -> Route:
        """How images with this padding, [B, N], are routed now."""
        published = not self.training and self.config.evaluation == "published"
        hard = self.config.routing == "hard"
        return Route(
            outside=self.outside,
            padding=padding if bool(padding.any()) else None,
            tau=(self.config.tau_max if published else self.tau) if hard else None,
            noisy=self.training or published,
            noise=noise,
            single=self.config.binarize and not self.training,
        )

    def _check(self, features: Tensor, questions: Tensor, asked: int) -> None:
        config = self.config
        if features.ndim != 3:
            raise ValueError(
                f"features of shape {list(features.shape)}: [images, cells, width] is needed; a grid is flattened "
                "row by row"
            )
        cells, width = features.shape[1:]
        if cells != config.cells:
            square = "" if math.isqrt(cells) ** 2 == cells else f", and {cells} cells are no square grid"
            raise ValueError(
                f"images of {cells} cells for a network of {config.grid}x{config.grid} = {config.cells}{square}: "
                "pad or cut the features to the grid, or set `grid`"
            )
        if width != config.feature_width:
            raise ValueError(
                f"features {width} wide for a network of feature_width={config.feature_width}: they come from another "
                "extractor; set feature_width, or use the features that it was trained on"
            )
        if questions.ndim != 2 or not questions.shape[1] or len(questions) != asked:
            raise ValueError(
                f"questions of shape {list(questions.shape)} for {asked} images: [images, words] is needed, "
                "with at least one place for a word (0 is padding)"
            )
