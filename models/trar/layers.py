"""TRAR's encoder and decoder layers, under the names of published checkpoints; each part is normed after it is added.

Shapes: B samples, T words, N cells, D width, H heads, E = D / H, R spans. Padding is True where there is nothing.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from models.trar.blocks import FeedForward
from models.trar.configuration import TrarConfig
from models.trar.elementwise import Dropout, LayerNorm
from models.trar.local_attention import chosen_attention
from models.trar.masked_attention import masked_attention
from models.trar.routed_attention import routed_attention, span_maps
from models.trar.routing import RoutingBlock, gumbel_noise, hard_weights, one_hot


class Attention(nn.Module):
    """Multi-head attention from x [B, N, D] to y [B, T, D] -> [B, N, D]."""

    def __init__(self, config: TrarConfig):
        super().__init__()
        self.heads = config.heads
        self.linear_v = nn.Linear(config.hidden, config.hidden)
        self.linear_k = nn.Linear(config.hidden, config.hidden)
        self.linear_q = nn.Linear(config.hidden, config.hidden)
        self.linear_merge = nn.Linear(config.hidden, config.hidden)
        self.dropout = Dropout(config.dropout)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, H, N, E]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries from x, keys and values from y, each [B, H, ., E]."""
        queries, keys, values = self.linear_q(x), self.linear_k(y), self.linear_v(y)
        return self.split_heads(queries), self.split_heads(keys), self.split_heads(values)

    def merge(self, mixed: Tensor) -> Tensor:
        """[B, H, N, E] -> [B, N, D]."""
        return self.linear_merge(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
        """`padding` [B, T]."""
        return self.merge(masked_attention(*self.project(x, y), padding[:, None, None, :], self.dropout))


@dataclass(frozen=True)
class Route:
    """How the images of a batch are routed.

    Attributes:
        outside: [R, N, N] bool: what each span does not see.
        padding: [B, N] bool, or None where no cell is padding.
        tau: temperature of hard routing; None: soft routing.
        noisy: hard routing adds noise; `noise`, [layers, B, R], is used in place of fresh draws.
        single: each image attends with its heaviest span alone.
    """

    outside: Tensor
    padding: Tensor | None
    tau: float | None = None
    noisy: bool = False
    noise: Tensor | None = None
    single: bool = False

    def weights(self, logits: Tensor, layer: int) -> Tensor:
        """Logits [B, R] of decoder layer `layer` -> weights [B, R]."""
        exact = logits.float() if logits.itemsize < 4 else logits
        if self.tau is None:
            return exact.softmax(-1)
        noise = None
        if self.noise is not None:
            noise = self.noise[layer].to(exact)
        elif self.noisy:
            noise = gumbel_noise(exact)
        return hard_weights(exact, noise, self.tau)


class RoutedAttention(Attention):
    """Self-attention over the grid whose span is chosen, or mixed, for each image."""

    def __init__(self, config: TrarConfig):
        super().__init__(config)
        self.grid, self.orders = config.grid, config.orders
        self.routing_block = RoutingBlock(
            config.hidden, len(config.orders), config.pooling, pool_padding=config.pool_padding
        )

    def forward(self, x: Tensor, route: Route, layer: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x [B, N, D] -> what was attended to [B, N, D], and the weights of the spans [B, R] before any choice."""
        alphas = route.weights(self.routing_block(x, route.padding), layer)
        query, key, value = self.project(x, x)
        if route.single:
            mixed = chosen_attention(query, key, value, alphas.argmax(-1), self.orders, self.grid, route.padding)
        else:
            dropout = self.dropout.p if self.training else 0.0
            mixed = routed_attention(query, key, value, alphas, route.outside, route.padding, dropout=dropout)
        return self.merge(mixed), alphas

    def maps(self, x: Tensor, route: Route) -> Tensor:
        """The attention weights of every span for x [B, N, D] -> [B, R, H, N, N]."""
        query, key, _ = self.project(x, x)
        return span_maps(query, key, route.outside, route.padding)


class EncoderLayer(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.mhatt = Attention(config)
        self.ffn = FeedForward(config.hidden, config.feed_forward, config.dropout)
        self.dropout = Dropout(config.dropout)
        self.norm1 = LayerNorm(config.hidden)
        self.norm2 = LayerNorm(config.hidden)

    def forward(self, y: Tensor, padding: Tensor) -> Tensor:
        """Words y [B, T, D], padding [B, T] -> [B, T, D]."""
        y = self.norm1(y + self.dropout(self.mhatt(y, y, padding)))
        return self.norm2(y + self.dropout(self.ffn(y)))


class DecoderLayer(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.mhatt1 = RoutedAttention(config)
        self.mhatt2 = Attention(config)
        self.ffn = FeedForward(config.hidden, config.feed_forward, config.dropout)
        self.dropout = Dropout(config.dropout)
        self.norm1 = LayerNorm(config.hidden)
        self.norm2 = LayerNorm(config.hidden)
        self.norm3 = LayerNorm(config.hidden)

    def forward(self, x: Tensor, y: Tensor, padding: Tensor, route: Route, layer: int) -> tuple[Tensor, Tensor]:
        """Cells x [B, N, D], words y [B, T, D] with padding [B, T] -> cells, and the weights of the spans [B, R]."""
        attended, alphas = self.mhatt1(x, route, layer)
        x = self.norm1(x + self.dropout(attended))
        x = self.norm2(x + self.dropout(self.mhatt2(x, y, padding)))
        return self.norm3(x + self.dropout(self.ffn(x))), alphas


def used_weights(alphas: Tensor, route: Route) -> Tensor:
    """The weights that the spans really had: those given, or 1 at the chosen one."""
    return one_hot(alphas) if route.single else alphas
