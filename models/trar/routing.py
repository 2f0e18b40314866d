"""Which span an image attends with: logits from a pooled image, weights from logits.

Shapes: B images, N cells, D width, R spans.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.trar.blocks import NormedPool, masked_softmax


class MeanPool(nn.Module):
    """The mean over the cells [B, N, D] that are not padding; over all where all are."""

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        if padding is None:
            return x.mean(1)
        real = (~padding | padding.all(1, keepdim=True)).to(x.dtype)
        return (real[:, None] @ x).squeeze(1) / real.sum(1, keepdim=True)


class LinearPool(nn.Linear):
    """A sum over the cells [B, N, D] weighted by a softmax of one linear layer."""

    def __init__(self, width: int):
        super().__init__(width, 1)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        weights = masked_softmax(super().forward(x), padding)
        return (weights.transpose(1, 2) @ x).squeeze(1)


class RoutingBlock(nn.Module):
    """Logits of the spans, one row an image, from the input of a decoder layer.

    Args:
        pooling: "avg", "attention" or "fc".
        pool_padding: padded cells count too, as published.
    """

    def __init__(self, width: int, spans: int, pooling: str, *, pool_padding: bool):
        super().__init__()
        pools = {"avg": lambda: MeanPool(), "attention": lambda: NormedPool(width), "fc": lambda: LinearPool(width)}
        self.pool = pools[pooling]()
        self.pool_padding = pool_padding
        self.mlp = nn.Sequential(
            nn.Linear(width, width // 2, bias=False),
            nn.ReLU(),
            nn.Linear(width // 2, spans),
        )

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """x [B, N, D], padding [B, N] -> [B, R]."""
        return self.mlp(self.pool(x, None if self.pool_padding else padding))


def gumbel_noise(logits: Tensor) -> Tensor:
    """-log of exponential draws, one for each logit [B, R]."""
    return -torch.empty_like(logits).exponential_().log()


def hard_weights(logits: Tensor, noise: Tensor | None, tau: float) -> Tensor:
    """Gumbel softmax (arXiv:1611.01144): softmax((log softmax(logits) + noise) / tau) over R -> [B, R].

    Without noise it is what the sampled weights are centred on.
    """
    scores = F.log_softmax(logits, -1)
    return ((scores if noise is None else scores + noise) / tau).softmax(-1)


def one_hot(alphas: Tensor) -> Tensor:
    """1 at the heaviest span of each row [B, R], 0 elsewhere; the first one of equals."""
    return F.one_hot(alphas.argmax(-1), alphas.shape[-1]).to(alphas.dtype)
