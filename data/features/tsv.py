"""LXMERT's feature files: a line a picture, tab-separated, arrays in base64.

Columns: img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features; no header.
The arrays are little-endian, in row order: ids int64, all else float32.
"""

import binascii
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from data.features.regions import Regions
from data.questions.files import PathLike

COLUMNS = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
_TYPES = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4", "boxes": "<f4"}


class TsvFile:
    """The pictures of one file, in order; `origin` is its record once all were read."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.origin: dict[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[str, Regions]]:
        """(place, regions) of each line. Raises ValueError, with the row counted from 1, for a line that is cut off,
        has another number of columns, or whose arrays are not of the length that num_boxes says.
        """
        if not os.access(self.path, os.R_OK):
            raise ValueError(f"{self.path}: cannot read the features: check the path")
        digest, size = sha256(), self.path.stat().st_size
        progress = tqdm(desc=self.path.name, total=size, unit="B", unit_scale=True, delay=2, leave=False)
        with open(self.path, "rb") as stream, progress:
            for number, line in enumerate(stream, start=1):
                digest.update(line)
                progress.update(len(line))
                if number == 1 and line.startswith(b"img_id\t"):
                    continue
                if line.strip():
                    where = f"{self.path}: row {number}"
                    yield where, decode_row(line, where)
        self.origin = {"file": str(self.path), "bytes": size, "sha256": digest.hexdigest()}


def decode_row(line: bytes, where: str) -> Regions:
    """One line as `Regions`, float32. Raises ValueError, beginning with `where`, for one that is not whole."""
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) != len(COLUMNS):
        raise ValueError(
            f"{where}: {len(cells)} columns where {len(COLUMNS)} are needed: the row is cut off, or no LXMERT file"
        )
    row = dict(zip(COLUMNS, cells, strict=True))
    height, width, count = (_integer(row, name, where) for name in ("img_h", "img_w", "num_boxes"))
    if count < 1:
        raise ValueError(f"{where}: num_boxes is {count}: remove the row")
    arrays = {name: _array(row, name, dtype, where) for name, dtype in _TYPES.items()}
    features = _array(row, "features", "<f4", where)
    for name, values in arrays.items():
        needed = 4 * count if name == "boxes" else count
        if len(values) != needed:
            raise ValueError(f"{where}: {name} has {len(values)} numbers where {needed} are needed: {_REMEDY}")
    if not len(features) or len(features) % count:
        raise ValueError(f"{where}: {len(features)} numbers of features do not fit {count} boxes: {_REMEDY}")
    boxes = arrays.pop("boxes").reshape(count, 4)
    name = row["img_id"].decode("utf-8", "surrogateescape")
    return Regions(name, features.reshape(count, -1), boxes, (height, width), arrays)


_REMEDY = "the row is damaged, get the file again"


def _integer(row: dict[str, bytes], name: str, where: str) -> int:
    try:
        return int(row[name])
    except ValueError:
        raise ValueError(f"{where}: {name} is {row[name][:20]!r}, no number: {_REMEDY}") from None


def _array(row: dict[str, bytes], name: str, dtype: str, where: str) -> np.ndarray:
    try:
        return np.frombuffer(binascii.a2b_base64(row[name], strict_mode=True), dtype)
    except (binascii.Error, ValueError):
        raise ValueError(f"{where}: {name} is not whole base64: {_REMEDY}") from None
