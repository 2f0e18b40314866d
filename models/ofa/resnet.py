"""The image tower: the first three stages of a ResNet (He et al., arXiv:1512.03385), stride on the 3x3 convolution.

Models that are trained here may have EfficientNet-Lite0 in its place, which comes with weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.towers.lite0 import HEAD, LAST, MIDDLE, Lite0

#: Blocks in each of the three stages. Every type is made of bottleneck blocks, as OFA defines them.
STAGES = {
    "resnet18": (2, 2, 2),
    "resnet34": (3, 4, 6),
    "resnet50": (3, 4, 6),
    "resnet101": (3, 4, 23),
    "resnet152": (3, 8, 36),
}
#: Channels of the output feature map.
OUT_CHANNELS = 1024
#: Pixels of the input that one position of the output stands for, along each axis.
STRIDE = 16


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples in training (Huang et al., arXiv:1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = torch.empty((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * kept / keep


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 with a shortcut; `width` channels inside, 4 `width` outside."""

    def __init__(self, in_channels: int, width: int, stride: int, drop_path: float):
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(shortcut + self.drop_path(x))


class ResNet(nn.Module):
    """Pixels [B, 3, H, W] -> features [B, 1024, H/16, W/16].

    Args:
        resnet_type: a key of `STAGES`.
        drop_path_rate: stochastic-depth rate of the last block of each stage; it grows linearly from 0 at the first.

    Raises:
        ValueError: unknown `resnet_type`.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    channels, stride = OUT_CHANNELS, STRIDE

    def __init__(self, resnet_type: str, drop_path_rate: float = 0.0):
        super().__init__()
        if resnet_type not in STAGES:
            raise ValueError(
                f"unknown resnet_type {resnet_type!r}: choose one of {', '.join([*STAGES, *Lite0Tower.TYPES])}"
            )
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for stage, blocks in enumerate(STAGES[resnet_type], start=1):
            width = 64 * 2 ** (stage - 1)
            layers = []
            for block in range(blocks):
                rate = drop_path_rate * block / max(blocks - 1, 1)
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(Bottleneck(channels, width, stride, rate))
                channels = 4 * width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        return self.layer3(self.layer2(self.layer1(x)))


class Lite0Tower(nn.Module):
    """Pixels [B, 3, H, W] -> features of EfficientNet-Lite0, [B, 432, H/16, W/16] or [B, 1728, H/32, W/32].

    "lite0" sets 112 channels of stride 16 beside 320 of stride 32, each of which then stands at four places.
    "lite0_s32" has a quarter of the patches: 1280 channels of stride 32 beside the 4 x 112 of stride 16 in each.
    Each map is divided by its deviation over photographs (stride 16 of "lite0_s32" by twice that): otherwise nearly all
    of what `image_proj` sees at first would be stride 16, which knows least of what is in a picture.
    """

    TYPES = {"lite0": (MIDDLE + LAST, STRIDE), "lite0_s32": (HEAD + 4 * MIDDLE, 2 * STRIDE)}
    DEVIATION = {MIDDLE: 6.5, LAST: 2.7, HEAD: 0.88}

    def __init__(self, resnet_type: str):
        super().__init__()
        self.channels, self.stride = self.TYPES[resnet_type]
        self.lite0 = Lite0()
        if self.stride == STRIDE:
            self.lite0.head.requires_grad_(False)  # it is not read

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.lite0(pixels)
        middle, last, head = (each / self.DEVIATION[each.shape[1]] for each in maps)
        height, width = middle.shape[-2:]
        if self.stride == STRIDE:
            last = last.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            return torch.cat([middle, last[..., :height, :width]], dim=1)
        middle = F.pad(middle / 2, (0, width % 2, 0, height % 2))
        return torch.cat([head, F.pixel_unshuffle(middle, 2)], dim=1)


ImageTower = ResNet | Lite0Tower


def image_tower(resnet_type: str, drop_path_rate: float = 0.0) -> ImageTower:
    """The tower that `resnet_type` names. ValueError for an unknown one."""
    if resnet_type in Lite0Tower.TYPES:
        return Lite0Tower(resnet_type)
    return ResNet(resnet_type, drop_path_rate)
