"""TRAR's published arithmetic told plainly: one masked softmax an order, stacked and weighed. Soft routing, mean pool.

The names of the weights are those of `models.trar`, so that both can be given the same and compared.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.trar import TrarConfig


class Norm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.a_2 * (x - mean) / (deviation + 1e-6) + self.b_2


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.fc = nn.ModuleDict({"linear": nn.Linear(width, hidden)})
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(F.relu(self.fc["linear"](x))))


class Attention(nn.Module):
    def __init__(self, config: TrarConfig, routed: bool = False):
        super().__init__()
        width = config.hidden
        self.heads = config.heads
        self.linear_v, self.linear_k = nn.Linear(width, width), nn.Linear(width, width)
        self.linear_q, self.linear_merge = nn.Linear(width, width), nn.Linear(width, width)
        if routed:
            spans = len(config.orders)
            mlp = nn.Sequential(nn.Linear(width, width // 2, bias=False), nn.ReLU(), nn.Linear(width // 2, spans))
            self.routing_block = nn.ModuleDict({"mlp": mlp})
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, y: Tensor, masks: list[Tensor]) -> Tensor:
        """With several masks the attention is the routed sum over them."""
        q, k, v = (self.split(part) for part in (self.linear_q(x), self.linear_k(y), self.linear_v(y)))
        alphas = self.routing_block["mlp"](x.mean(1)).softmax(-1) if hasattr(self, "routing_block") else None
        return self.linear_merge(attend(q, k, v, alphas, masks, self.dropout).transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, alphas: Tensor | None, masks: list[Tensor], dropout: nn.Module) -> Tensor:
    """One masked softmax a mask; several are weighed with alphas [B, R]. q, k, v [B, H, N, E]."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    maps = [dropout(scores.masked_fill(mask, -1e9).softmax(-1)) for mask in masks]
    weights = maps[0] if alphas is None else torch.einsum("br,brhij->bhij", alphas, torch.stack(maps, 1))
    return weights @ v


class Encoder(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.mhatt, self.ffn = Attention(config), _feed_forward(config)
        self.norm1, self.norm2 = Norm(config.hidden), Norm(config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        y = self.norm1(y + self.dropout(self.mhatt(y, y, [mask])))
        return self.norm2(y + self.dropout(self.ffn["mlp"](y)))


class Decoder(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.mhatt1, self.mhatt2, self.ffn = Attention(config, routed=True), Attention(config), _feed_forward(config)
        self.norm1, self.norm2, self.norm3 = Norm(config.hidden), Norm(config.hidden), Norm(config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, y: Tensor, spans: list[Tensor], mask: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.mhatt1(x, x, spans)))
        x = self.norm2(x + self.dropout(self.mhatt2(x, y, [mask])))
        return self.norm3(x + self.dropout(self.ffn["mlp"](x)))


class Pool(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.mlp = MLP(config.hidden, config.pool_width, 1, config.dropout)
        self.linear_merge = nn.Linear(config.hidden, config.pooled_width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        weights = self.mlp(x).masked_fill(mask.flatten(1)[..., None], -1e9).softmax(1)
        return self.linear_merge((weights * x).sum(1))


class PlainTrar(nn.Module):
    def __init__(self, config: TrarConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.words, config.word_width)
        self.lstm = nn.LSTM(config.word_width, config.hidden, batch_first=True)
        self.adapter = nn.ModuleDict({"frcn_linear": nn.Linear(config.feature_width, config.hidden)})
        encoders = nn.ModuleList(Encoder(config) for _ in range(config.layers))
        decoders = nn.ModuleList(Decoder(config) for _ in range(config.layers))
        self.backbone = nn.ModuleDict({"enc_list": encoders, "dec_list": decoders})
        self.attflat_img, self.attflat_lang = Pool(config), Pool(config)
        self.proj_norm = Norm(config.pooled_width)
        self.proj = nn.Linear(config.pooled_width, config.answers)
        cells = torch.arange(config.cells)
        row, column = cells // config.grid, cells % config.grid
        distance = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
        self.windows = [distance > order if order else torch.zeros_like(distance) > 0 for order in config.orders]

    def forward(self, features: Tensor, questions: Tensor) -> Tensor:
        image_mask = (features.abs().sum(-1) == 0)[:, None, None]
        word_mask = (questions == 0)[:, None, None]
        y, _ = self.lstm(self.embedding(questions))
        x = self.adapter["frcn_linear"](features)
        spans = [image_mask | window.to(features.device) for window in self.windows]
        for layer in self.backbone["enc_list"]:  # type: ignore[attr-defined]
            y = layer(y, word_mask)
        for layer in self.backbone["dec_list"]:  # type: ignore[attr-defined]
            x = layer(x, y, spans, word_mask)
        return self.proj(self.proj_norm(self.attflat_lang(y, word_mask) + self.attflat_img(x, image_mask)))


def _feed_forward(config: TrarConfig) -> nn.ModuleDict:
    return nn.ModuleDict({"mlp": MLP(config.hidden, config.feed_forward, config.hidden, config.dropout)})
