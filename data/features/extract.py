"""Grid features of one's own pictures: batch after batch through a frozen network, into a feature store.

Finished parts are kept beside the store until it is whole, so that an interrupted extraction goes on where it stopped.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from data.features.regions import Regions
from data.features.store import PathLike, StoreInfo
from data.features.writer import DTYPES, new_store
from data.files import replacing
from data.pictures import Pictures
from data.reading import load_json

log = logging.getLogger("stylecap")

Prepare = Callable[[Image.Image], np.ndarray]
Tower = Callable[[Tensor], Tensor]
_PART = 512  # pictures that are kept together
_PLAN = "plan.json"


def square(side: int) -> Prepare:
    """A function from an RGB picture to uint8 [3, side, side], resized without regard to its shape (bicubic)."""

    def prepare(image: Image.Image) -> np.ndarray:
        resized = image.resize((side, side), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))

    return prepare


def extract_grids(
    pictures: Pictures,
    image_ids: Sequence[str],
    out: PathLike,
    *,
    tower: Tower,
    prepare: Prepare,
    cells: int,
    detector: str,
    batch_size: int = 32,
    dtype: str = "float16",
    stride: int | None = None,
    device: str | torch.device = "cpu",
) -> StoreInfo:
    """Features of a grid of `cells` x `cells` over each picture, in a new store at `out`, in this order.

    `prepare` makes an array [3, H, W] of a picture, the same size for all. `tower` makes [B, cells * cells, D], row by
    row, or [B, D, cells, cells] of a batch of these on `device`; it is called without gradients. `detector` names both
    on record, `stride` the pixels a cell.

    An interrupted call with the same arguments goes on; its parts lie in a hidden folder beside `out`. ValueError if
    `out` exists, for parts of another extraction, a picture that cannot be read, and a tower of another grid.
    """
    target = Path(out)
    _check(target, dtype, batch_size, cells)
    ids, places = list(dict.fromkeys(image_ids)), list(pictures.places)
    parts = target.with_name(f".{target.name}.parts")
    _start(parts, {"ids": _digest(ids), "places": places, "cells": cells, "detector": detector, "dtype": dtype})
    batches = _Batches(pictures, tower, prepare, cells, batch_size, dtype, device)
    with ThreadPoolExecutor() as pool, tqdm(desc="extracting", total=len(ids), delay=2, leave=False) as progress:
        for number, start in enumerate(range(0, len(ids), _PART)):
            part, file = ids[start : start + _PART], parts / f"{number:06d}.npz"
            if not file.exists():
                batches.write(part, file, pool)
            progress.update(len(part))
    info = _assemble(ids, parts, target, dtype, cells, {"pictures": places, "files": len(ids)}, detector, stride)
    shutil.rmtree(parts)
    return info


def _assemble(
    ids: Sequence[str],
    parts: Path,
    target: Path,
    dtype: str,
    cells: int,
    origin: dict[str, Any],
    detector: str,
    stride: int | None,
) -> StoreInfo:
    grid = (cells, cells)
    with new_store(target, dtype=dtype, grid=grid) as writer:
        for image_id, (features, (height, width)) in zip(ids, _stored(parts), strict=True):
            writer.add(Regions(image_id, features, size=(height, width), grid=grid), str(target))
        return writer.finish(detector, [origin], stride)


def _check(target: Path, dtype: str, batch_size: int, cells: int) -> None:
    if target.exists():
        raise ValueError(f"{target}: it is there already: remove it or choose another place")
    if dtype not in DTYPES or batch_size < 1 or cells < 1:
        problem = f"dtype {dtype!r}, batch_size {batch_size}, cells {cells}"
        raise ValueError(f"{problem}: give float16 or float32, and numbers above 0")


@dataclass(frozen=True)
class _Batches:
    """How pictures become features."""

    pictures: Pictures
    tower: Tower
    prepare: Prepare
    cells: int
    batch_size: int
    dtype: str
    device: str | torch.device

    def write(self, ids: Sequence[str], file: Path, pool: ThreadPoolExecutor) -> None:
        """Writes features [P, cells * cells, D] and sizes [P, 2] of P pictures."""
        features, sizes = [], []
        for start in range(0, len(ids), self.batch_size):
            loaded = list(pool.map(self._load, ids[start : start + self.batch_size]))
            pixels = torch.from_numpy(np.stack([array for array, _ in loaded])).to(self.device)
            with torch.inference_mode():
                grid = _rows(self.tower(pixels), len(loaded), self.cells)
            features.append(grid.to(getattr(torch, self.dtype)).cpu().numpy())
            sizes += [size for _, size in loaded]
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, features=np.concatenate(features), sizes=np.array(sizes, dtype=np.int32))

    def _load(self, image_id: str) -> tuple[np.ndarray, tuple[int, int]]:
        image = self.pictures.open(image_id)
        return self.prepare(image), (image.height, image.width)


def _rows(grid: Tensor, batch: int, cells: int) -> Tensor:
    """[B, cells * cells, D] of what a tower gives."""
    if grid.ndim == 4 and grid.shape[2:] == (cells, cells):
        grid = grid.flatten(2).transpose(1, 2)
    if grid.ndim != 3 or grid.shape[:2] != (batch, cells * cells):
        raise ValueError(
            f"the tower gives {tuple(grid.shape)} for {batch} pictures and a grid of {cells} x {cells}: "
            "choose the size of the pictures, or the grid, to fit it"
        )
    return grid


def _stored(parts: Path) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Features [cells * cells, D] and [height, width] of every picture, in order."""
    for file in sorted(parts.glob("*.npz")):
        with np.load(file) as content:
            features, sizes = content["features"], content["sizes"].tolist()
        yield from zip(features, sizes, strict=True)


def _start(parts: Path, plan: dict[str, Any]) -> None:
    """Makes the folder of parts, or accepts that of an interrupted call with the same plan."""
    file = parts / _PLAN
    parts.mkdir(parents=True, exist_ok=True)
    if file.exists():
        if load_json(file) != plan:
            raise ValueError(
                f"{parts}: an unfinished extraction with other settings: remove it, or use its settings again"
            )
        log.info("%s: going on with %d finished parts", parts, len(list(parts.glob("*.npz"))))
        return
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(plan), encoding="utf-8")


def _digest(ids: Sequence[str]) -> str:
    return sha256("\n".join(ids).encode("utf-8", "surrogatepass")).hexdigest()
