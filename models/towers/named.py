"""Frozen ImageNet networks by name, for grid features of pictures: "lite0", "resnet:FILE"; "pixels" is none at all.

A tower's full name, such as "lite0@224", says how pictures are prepared, too: feature stores and models keep it, so
that a picture that comes later is seen the same way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data.features.extract import square
from data.features.regions import Regions
from models.ofa.checkpoints import read_tensors
from models.ofa.resnet import STAGES, STRIDE, ResNet
from models.towers.lite0 import Lite0

SIDE = 224  # pixels
_LITE0, _RESNET, _PIXELS = "lite0", "resnet:", "pixels"
# Of ImageNet's pixels, 0 to 1.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NamedTower:
    """A tower for `data.features.extract.extract_grids`.

    Attributes:
        name: with the side of the square that pictures are resized to.
        prepare: a picture to uint8 [3, side, side].
        grid: (pixels uint8 [B, 3, side, side], cells) -> [B, cells * cells, D], row by row.
    """

    name: str
    side: int
    prepare: Callable[[Image.Image], np.ndarray]
    grid: Callable[[Tensor, int], Tensor]

    def features(self, image: Image.Image, image_id: str, cells: int, *, dtype: str = "float16") -> Regions:
        """Those of one picture, as a store of this tower has them (`dtype` is the store's)."""
        pixels = torch.from_numpy(self.prepare(image))[None]
        with torch.inference_mode():
            grid = self.grid(pixels, cells)[0].to(getattr(torch, dtype)).numpy()
        return Regions(image_id, grid, size=(image.height, image.width), grid=(cells, cells))


def tower_named(name: str) -> NamedTower:
    """The tower "lite0", "resnet:FILE" (weights in torchvision's format) or "pixels" (each cell's own pixels, -1 to 1,
    for a network that learns to see), or one of these with "@SIDE".

    Raises ValueError for another name, a side that is not a multiple of 32, and weights that are missing or do not fit.
    """
    kind, _, side_text = name.rpartition("@") if re.search(r"@\d+$", name) else (name, "", str(SIDE))
    side = int(side_text)
    if side < 32 or side % 32:
        raise ValueError(f"tower {name}: the side of pictures is {side} pixels: give a multiple of 32")
    full = f"{kind}@{side}"
    if kind == _LITE0:
        lite0 = Lite0.pretrained()
        return NamedTower(full, side, square(side), lambda pixels, cells: lite0.grid(pixels, cells))
    if kind.startswith(_RESNET):
        tower = _resnet(Path(kind.removeprefix(_RESNET)))
        return NamedTower(full, side, square(side), lambda pixels, cells: _resnet_grid(tower, pixels, cells))
    if kind == _PIXELS:
        return NamedTower(full, side, square(side), _pixel_grid)
    raise ValueError(f"there is no tower {name!r}: choose lite0, resnet:FILE or pixels")


def is_tower(name: str) -> bool:
    """Whether a store's record names a tower of these."""
    return bool(re.fullmatch(rf"({_LITE0}|{_PIXELS}|{_RESNET}.+)@\d+", name))


def _resnet(path: Path) -> ResNet:
    """The first three stages of the ResNet in a file; which one the numbers of its blocks tell."""
    state = read_tensors(path)
    blocks = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{n}.")}) for n in (1, 2, 3))
    kind = next(
        (kind for kind, stages in STAGES.items() if stages == blocks and "layer1.0.conv3.weight" in state), None
    )
    if kind is None:
        raise ValueError(f"{path} is no ResNet of bottleneck blocks in torchvision's format: name another file")
    tower = ResNet(kind)
    parts = tuple(f"{name}." for name, _ in tower.named_children())
    missing, _ = tower.load_state_dict({n: t for n, t in state.items() if n.startswith(parts)}, strict=False)
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking:
        raise ValueError(f"{path} lacks {len(lacking)} weights of {kind}, such as {lacking[0]}: get the file again")
    return tower.eval()


def _resnet_grid(tower: ResNet, pixels: Tensor, cells: int) -> Tensor:
    if cells > pixels.shape[-1] // STRIDE:
        raise ValueError(f"a grid of {cells} x {cells} is finer than the tower's: at most {pixels.shape[-1] // STRIDE}")
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    found = tower((pixels.float() / 255 - mean) / deviation)
    return F.adaptive_avg_pool2d(found, cells).flatten(2).transpose(1, 2).contiguous()


def _pixel_grid(pixels: Tensor, cells: int) -> Tensor:
    """[B, cells * cells, 3 * p * p] of pictures [B, 3, cells * p, cells * p]."""
    side = pixels.shape[-1] // cells
    if side * cells != pixels.shape[-1]:
        raise ValueError(f"pictures of {pixels.shape[-1]} pixels do not divide into a grid of {cells} x {cells}")
    patches = (pixels.float() / 127.5 - 1).unflatten(3, (cells, side)).unflatten(2, (cells, side))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
