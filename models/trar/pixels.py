"""A small convolutional tower under TRAR's grid, for pictures that no frozen network knows; trained with the rest.

Its input is a grid of pixels: each cell holds the 3 x p x p numbers of its patch, as the tower "pixels" of
`models.towers.named` stores them. Shapes: B pictures, G cells a side, p pixels a side of a cell.
"""

import math
from itertools import pairwise

from torch import Tensor, nn

_NARROWEST = 8


class PixelTower(nn.Module):
    """Convolutions, each with the largest of 2 x 2 places after it, until a cell is one place.

    Strides of 2 instead are cheaper, and need several times the updates to tell shapes from each other: an edge between
    two places is seen by neither.

    Args:
        patch: pixels a side of a cell: a power of 2.
        width: numbers a cell that come out.

    Raises:
        ValueError: another patch.
    """

    def __init__(self, grid: int, patch: int, width: int):
        super().__init__()
        stages = patch.bit_length() - 1
        if patch < 2 or 2**stages != patch:
            raise ValueError(f"cells of {patch} x {patch} pixels: a convolutional tower needs 2, 4, 8, 16 or 32")
        self.grid, self.patch = grid, patch
        widths = [3] + [max(_NARROWEST, width >> (stages - 1 - stage)) for stage in range(stages - 1)] + [width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [*_convolution(before, after), nn.MaxPool2d(2)]
        layers += _convolution(width, width)
        self.layers = nn.Sequential(*layers)

    def forward(self, cells: Tensor) -> Tensor:
        """[B, G * G, 3 * p * p] -> [B, G * G, width]."""
        patches = cells.unflatten(2, (3, self.patch, self.patch)).unflatten(1, (self.grid, self.grid))
        pixels = patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        found: Tensor = self.layers(pixels)
        return found.flatten(2).transpose(1, 2)


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def patch_of(feature_width: int) -> int:
    """Pixels a side of a cell of 3 * p * p numbers. ValueError for a width that is none of pixels."""
    side = math.isqrt(feature_width // 3)
    if 3 * side * side != feature_width:
        raise ValueError(
            f"features {feature_width} wide are no square of pixels: extract them with the tower pixels, or set "
            "tower_width=0"
        )
    return side
