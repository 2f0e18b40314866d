"""The feature store: region or grid features of any number of pictures, opened in milliseconds and shared by workers.

A store is a folder: `store.json` says what it holds and where that came from, each `.npy` file beside it is one array
over all regions (features [R, D], boxes [R, 4], labels [R]) or over all pictures (offsets [N + 1], sizes [N, 2], names,
and the sorted hashes of the names for look-up). Nothing is read before it is asked for, and what was read is given back
to the system after some megabytes, so that memory stays flat.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from data.features.arrays import MappedArray
from data.features.regions import LABELS, Regions
from data.pictures import without_suffix
from data.reading import load_json

MANIFEST = "store.json"
VERSION = 1
PER_REGION = ("features", "boxes", *LABELS)
PER_IMAGE = ("offsets", "sizes", "names", "name_ends", "hashes", "order")
_RESIDENT = 2**23  # bytes that a process reads before it gives the pages back

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What `store.json` says.

    Attributes:
        images, rows: N pictures with R regions in all, `width` numbers each, of type `dtype`.
        boxes: regions of every picture, None where that differs.
        grid, stride: (rows, columns) of a grid and pixels a cell, None for detected regions.
        arrays: name of each array -> BLAKE2b of its content.
        detector: what made the features.
        origin: the files that they were read from: name, size and hash.
    """

    images: int
    rows: int
    width: int
    dtype: str
    boxes: int | None
    grid: tuple[int, int] | None
    stride: int | None
    arrays: dict[str, str]
    detector: str
    origin: list[dict[str, Any]]
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def name_hash(name: str) -> int:
    """64 bits of a picture's id, by which it is looked up."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read_info(path: PathLike) -> StoreInfo:
    """Raises ValueError for a folder that is no store, or one of another version."""
    file = Path(path) / MANIFEST
    try:
        content = load_json(file)
        if content.get("version") != VERSION:
            raise ValueError(f"{path}: a feature store of version {content.get('version')}: import the features anew")
        grid = content["grid"]
        return StoreInfo(**(content | {"grid": None if grid is None else (grid[0], grid[1])}))
    except FileNotFoundError:
        raise ValueError(f"{path}: no feature store there: make one with features import or features extract") from None
    except (OSError, AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{file}: cannot read it ({error}): import the features anew") from None


class FeatureStore:
    """`store[image_id]` -> `Regions`, whose arrays are read-only views into the files.

    An id is found with or without a picture's suffix (`42.jpg` finds `42`). Pickling passes the path on, and forked
    workers share the pages.
    """

    def __init__(self, path: PathLike) -> None:
        """Raises ValueError for a folder that is no store or lacks one of its arrays."""
        self.path = str(path)
        self._open()

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = state["path"]
        self._open()

    def _open(self) -> None:
        self.info = read_info(self.path)
        self._maps = {name: MappedArray(Path(self.path) / f"{name}.npy") for name in self.info.arrays}
        arrays = {name: mapped.array for name, mapped in self._maps.items()}
        missing = [name for name in ("features", *PER_IMAGE) if name not in arrays]
        if missing or len(arrays["features"]) != self.info.rows or len(arrays["offsets"]) != self.info.images + 1:
            raise ValueError(f"{self.path}: {MANIFEST} does not fit the arrays beside it: import the features anew")
        self._features, self._boxes = arrays["features"], arrays.get("boxes")
        self._labels = {name: arrays[name] for name in LABELS if name in arrays}
        self._offsets, self._sizes = arrays["offsets"], arrays["sizes"]
        self._names, self._ends = arrays["names"], arrays["name_ends"]
        self._hashes, self._order = arrays["hashes"], arrays["order"]
        self._read = 0

    def __len__(self) -> int:
        return self.info.images

    def __iter__(self) -> Iterator[str]:
        return (self.name(row) for row in range(len(self)))

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and self.row_of(image_id) is not None

    def __getitem__(self, image_id: str) -> Regions:
        row = self.row_of(image_id)
        if row is None:
            raise KeyError(f"{self.path}: no features of picture {image_id!r}: extract them, or use another store")
        return self.regions(row)

    def name(self, row: int) -> str:
        """The id of the picture in a row."""
        row = range(len(self))[row]
        start = int(self._ends[row - 1]) if row else 0
        return bytes(self._names[start : int(self._ends[row])]).decode("utf-8", "surrogatepass")

    def row_of(self, image_id: str) -> int | None:
        """The row of a picture; None if it is not there."""
        row = self._find(image_id)
        stem = without_suffix(image_id)
        return self._find(stem) if row is None and stem != image_id else row

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Those of the ids that the store does not have."""
        return [image_id for image_id in image_ids if image_id not in self]

    def regions(self, row: int) -> Regions:
        """What is in a row."""
        row = range(len(self))[row]
        where = slice(int(self._offsets[row]), int(self._offsets[row + 1]))
        features = self._features[where]
        self._account(features.nbytes)
        height, width = self._sizes[row]
        return Regions(
            self.name(row),
            features,
            None if self._boxes is None else self._boxes[where],
            (int(height), int(width)),
            {name: values[where] for name, values in self._labels.items()},
            self.info.grid,
        )

    def array(self, name: str) -> np.ndarray:
        """One of the arrays whole, by the name of its file."""
        return self._maps[name].array

    def release(self) -> None:
        """Gives the pages read so far back to the system."""
        for mapped in self._maps.values():
            mapped.release()

    def _find(self, image_id: str) -> int | None:
        key = np.uint64(name_hash(image_id))
        at = int(np.searchsorted(self._hashes, key))
        while at < len(self) and self._hashes[at] == key:  # two names may share a hash
            row = int(self._order[at])
            if self.name(row) == image_id:
                return row
            at += 1
        return None

    def _account(self, count: int) -> None:
        self._read += count
        if self._read > _RESIDENT:
            self._read = 0
            self.release()
