"""Dropout whose random numbers cost little on a CPU.

torch draws one number of a Bernoulli distribution for each element there, which took a twelfth of an update of a small
model. Eight elements share a draw of 64 bits here, a byte each, so that the rate is rounded to 1/256; what is kept is
scaled by the rounded rate. On an accelerator it is torch's own.
"""

import torch
from torch import Tensor, nn

_BYTE = 256


class Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        kept = _BYTE - round(_BYTE * self.p)
        # A byte holds neither "all" nor "none": rates within 1/512 of 0 and 1 are torch's own, too.
        if not self.training or x.device.type != "cpu" or not 0 < kept < _BYTE:
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        mask = draws.view(torch.uint8)[: x.numel()].view(x.shape) < kept
        return x * mask.to(x.dtype).mul_(_BYTE / kept)


class ChannelDropout(nn.Module):
    """Sets whole channels of a picture's features [B, C, h, w] to 0 in training; those that stay are scaled up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty(x.shape[0], x.shape[1], 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)
