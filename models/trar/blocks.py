"""Parts that TRAR's layers, routing and heads share, under the names of published checkpoints.

Shapes: B samples, N places, D width, G glimpses. Padding is True where there is nothing.
"""

from torch import Tensor, nn

from models.trar.elementwise import LayerNorm, ReluDropout
from models.trar.masked_attention import MASKED


class Hidden(nn.Module):
    """dropout(relu(linear)): the first half of an `MLP`."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.linear = nn.Linear(width, hidden)
        self.activation = ReluDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.linear(x))


class MLP(nn.Module):
    """Two linear layers with ReLU and dropout between them, and nothing after the second."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.fc = Hidden(width, hidden, dropout)
        self.linear = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.fc(x))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.mlp = MLP(width, hidden, width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class AttentionPool(nn.Module):
    """G learnt weighted sums over the places, concatenated and projected; all places alike where all are padding."""

    def __init__(self, width: int, hidden: int, out: int, glimpses: int, dropout: float):
        super().__init__()
        self.mlp = MLP(width, hidden, glimpses, dropout)
        self.linear_merge = nn.Linear(width * glimpses, out)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """x [B, N, D], padding [B, N] -> [B, out]."""
        weights = masked_softmax(self.mlp(x), padding)
        return self.linear_merge((weights.transpose(1, 2) @ x).flatten(1))


class NormedPool(AttentionPool):
    """The pool of the routing block: a norm at the end, and dropout 0.1 whatever the network's, as published."""

    def __init__(self, width: int):
        super().__init__(width, width, width, glimpses=1, dropout=0.1)
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        return self.norm(super().forward(x, padding))


def masked_softmax(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Softmax over the places of scores [B, N, G]; padded ones [B, N] get nothing, unless all are padded."""
    exact = scores.float() if scores.itemsize < 4 else scores
    if padding is not None:
        exact = exact.masked_fill(padding[..., None], MASKED)
    return exact.softmax(1).to(scores.dtype)
