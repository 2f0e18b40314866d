"""The image tower: the first three stages of a ResNet (He et al., arXiv:1512.03385), stride on the 3x3 convolution."""

import torch
from torch import Tensor, nn

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

    def __init__(self, resnet_type: str, drop_path_rate: float = 0.0):
        super().__init__()
        if resnet_type not in STAGES:
            raise ValueError(f"unknown resnet_type {resnet_type!r}: choose one of {', '.join(STAGES)}")
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
