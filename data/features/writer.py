"""Building a feature store: written beside its place and renamed into it when it is whole."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data.features.arrays import ArrayWriter
from data.features.regions import LABELS, Regions, fault_of
from data.features.store import MANIFEST, PathLike, StoreInfo, name_hash

DTYPES = ("float16", "float32")


class StoreWriter:
    """Takes the pictures one by one; made by `new_store`."""

    def __init__(self, folder: Path, dtype: str, grid: tuple[int, int] | None) -> None:
        self._folder = folder
        self._dtype = dtype
        self._grid = grid
        self._arrays: dict[str, ArrayWriter] = {}
        self._columns: tuple[str, ...] = ()  # those that the first picture has: all must have them
        self._width = 0
        self._seen: set[int] = set()
        self._hashes: list[int] = []
        self._counts: set[int] = set()
        self._rows = 0

    @property
    def images(self) -> int:
        """Pictures added so far."""
        return len(self._hashes)

    def add(self, regions: Regions, where: str) -> None:
        """Adds a picture; `where` names its place in the source.

        Raises ValueError, beginning with `where`, for an id that was added before, numbers that do not fit each other
        or the pictures before, a box outside the picture, and a feature that float16 cannot hold.
        """
        fault = fault_of(regions) or self._misfit(regions)
        if fault:
            raise ValueError(f"{where} (picture {regions.image_id!r}): {fault}: correct or remove it")
        if not self.images:
            self._begin(regions)
        self._arrays["features"].append(self._converted(regions, where))
        if regions.boxes is not None:
            self._arrays["boxes"].append(regions.boxes)
        for name, values in regions.labels.items():
            self._arrays[name].append(values)
        self._arrays["names"].append(np.frombuffer(regions.image_id.encode("utf-8", "surrogatepass"), np.uint8))
        self._arrays["name_ends"].append(np.array([self._arrays["names"].rows]))
        self._arrays["sizes"].append(np.array([regions.size]))
        self._rows += len(regions)
        self._arrays["offsets"].append(np.array([self._rows]))
        self._counts.add(len(regions))
        self._hashes.append(name_hash(regions.image_id))
        self._seen.add(self._hashes[-1])

    def finish(self, detector: str, origin: Sequence[dict[str, Any]], stride: int | None) -> StoreInfo:
        """Closes the arrays and writes the record. Raises ValueError if nothing was added."""
        if not self.images:
            raise ValueError("no features to store: check the source")
        hashes = np.array(self._hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        self._arrays["order"].append(order)
        self._arrays["hashes"].append(hashes[order])
        self.close()
        info = StoreInfo(
            images=self.images,
            rows=self._rows,
            width=self._width,
            dtype=self._dtype,
            boxes=self._counts.pop() if len(self._counts) == 1 else None,
            grid=self._grid,
            stride=stride,
            arrays={name: writer.digest for name, writer in self._arrays.items()},
            detector=detector,
            origin=list(origin),
        )
        (self._folder / MANIFEST).write_text(json.dumps(info.to_json(), indent=1), encoding="utf-8")
        return info

    def close(self) -> None:
        for writer in self._arrays.values():
            writer.close()

    def _begin(self, first: Regions) -> None:
        self._width = first.features.shape[1]
        self._columns = _columns(first)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "features": (self._dtype, (self._width,)),
            **({"boxes": ("float32", (4,))} if first.boxes is not None else {}),
            **{name: (LABELS[name], ()) for name in first.labels},
            "offsets": ("int64", ()),
            "sizes": ("int32", (2,)),
            "names": ("uint8", ()),
            "name_ends": ("int64", ()),
            "hashes": ("uint64", ()),
            "order": ("int64", ()),
        }
        self._arrays = {
            name: ArrayWriter(self._folder / f"{name}.npy", dtype, row) for name, (dtype, row) in shapes.items()
        }
        self._arrays["offsets"].append(np.zeros(1))

    def _misfit(self, regions: Regions) -> str | None:
        """What is wrong with a picture beside the ones before it."""
        if not regions.image_id:
            return "the id is empty"
        if name_hash(regions.image_id) in self._seen:
            return "the id is there already"
        if regions.grid != self._grid:
            return f"a grid of {regions.grid} in a store of {self._grid}"
        unknown = [name for name in regions.labels if name not in LABELS]
        if unknown:
            return f"unknown label {unknown[0]!r} (known: {', '.join(LABELS)})"
        if self.images and regions.features.shape[1] != self._width:
            return f"{regions.features.shape[1]} numbers a region where the pictures before have {self._width}"
        if self.images and _columns(regions) != self._columns:
            return f"it has {_columns(regions)} where the pictures before have {self._columns}"
        return None

    def _converted(self, regions: Regions, where: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            features = regions.features.astype(self._dtype)
        if not np.isfinite(features).all():
            raise ValueError(f"{where} (picture {regions.image_id!r}): a feature is too large for float16: use float32")
        return features


@contextmanager
def new_store(
    out: PathLike,
    *,
    dtype: str = "float16",
    grid: tuple[int, int] | None = None,
) -> Iterator[StoreWriter]:
    """A writer of a store at `out`: call `finish` inside the block.

    The store appears when the block ends, whole or not at all; what a killed process left behind is removed by the
    next. Raises ValueError if `out` exists, if another process is building it, and for another `dtype` than those of
    `DTYPES`.
    """
    target = Path(out)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if target.exists():
        raise ValueError(f"{target}: it is there already: remove it or choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.building")
    with ExitStack() as stack:
        building.mkdir(exist_ok=True)
        _lock(building, target, stack)
        stack.callback(shutil.rmtree, building, ignore_errors=True)
        for left in building.iterdir():
            left.unlink()
        writer = StoreWriter(building, dtype, grid)
        stack.callback(writer.close)
        yield writer
        writer.close()
        if not (building / MANIFEST).exists():
            raise ValueError(f"{target}: the store was not finished: nothing was written")
        building.rename(target)


def _lock(building: Path, target: Path, stack: ExitStack) -> None:
    """Holds the folder for this process until the stack ends."""
    folder = os.open(building, os.O_RDONLY)
    stack.callback(os.close, folder)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process that held it may have finished in between and renamed the folder.
        mine = building.exists() and os.path.samestat(os.fstat(folder), os.stat(building))
    except BlockingIOError:
        mine = False
    if not mine:
        raise ValueError(f"{target}: another process is building it: wait for it")


def _columns(regions: Regions) -> tuple[str, ...]:
    return (*(("boxes",) if regions.boxes is not None else ()), *sorted(regions.labels))
