"""Features in one file a picture: `.npy` arrays, or `.npz` with the boxes and the rest beside them.

An array is [N, D], or [rows, columns, D] of a grid. Keys of an `.npz`: `features` or `x`; then as far as there are
`boxes` or `bbox` (pixels), `image_h`, `image_w`, and what `LABELS` names. Pickled content is never loaded.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from data.features.regions import LABELS, Regions
from data.pictures import without_suffix
from data.plain_files import read_npz
from data.questions.files import PathLike

_FEATURES = ("features", "x")
_BOXES = ("boxes", "bbox")
_SIZE = (("image_h", "img_h"), ("image_w", "img_w"))


class ImageFiles:
    """The pictures of a folder and its subfolders, sorted by path; `origin` is their record once all were read.

    A picture's id is the file's name without `.npy` or `.npz`, and without a picture's suffix before that.
    """

    def __init__(self, folder: PathLike, grid: tuple[int, int] | None = None, naming: str = "{stem}") -> None:
        """`grid` says that each array is such a grid. `naming` makes an id from `stem`, the id as above, or from
        `number`, the one that the stem ends in: "CLEVR_val_{number:06d}".

        Raises ValueError for a folder that is not there or has no such files.
        """
        self.folder = Path(folder)
        self.grid = grid
        self.naming = naming
        self.origin: dict[str, Any] = {}
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such folder of features: check the path")
        self._paths = sorted(path for path in self.folder.rglob("*") if path.suffix in (".npy", ".npz"))
        if not self._paths:
            raise ValueError(f"{folder}: no .npy or .npz files there: check the path")

    def __iter__(self) -> Iterator[tuple[str, Regions]]:
        """(place, regions) of each file. Raises ValueError, with the file, for one that cannot be read."""
        digest, size = sha256(), 0
        for path in tqdm(self._paths, self.folder.name, unit="file", delay=2, leave=False):
            content = read_npz(path)
            digest.update(path.relative_to(self.folder).as_posix().encode())
            for values in content.values():
                digest.update(np.ascontiguousarray(values).data)
            size += path.stat().st_size
            yield str(path), self._regions(path, content)
        self.origin = {"file": str(self.folder), "files": len(self._paths), "bytes": size, "sha256": digest.hexdigest()}

    def _regions(self, path: Path, content: Mapping[str, np.ndarray]) -> Regions:
        features = _first(content, _FEATURES)
        if features is None:
            raise ValueError(f"{path}: no array {' or '.join(_FEATURES)} (it has {', '.join(content)}): name it so")
        if features.dtype.kind != "f":
            raise ValueError(f"{path}: the features are {features.dtype}: store them as floating-point numbers")
        if features.ndim == 3 and self.grid == features.shape[:2]:
            features = features.reshape(-1, features.shape[2])
        boxes = _first(content, _BOXES)
        height, width = (_first(content, names) for names in _SIZE)
        if boxes is not None and (height is None or width is None):
            raise ValueError(f"{path}: boxes without image_h and image_w: add the picture's size")
        return Regions(
            self._id(path),
            features,
            None if boxes is None else boxes.astype(np.float32),
            (0, 0) if height is None or width is None else (int(height), int(width)),
            {name: content[name] for name in LABELS if name in content},
            self.grid,
        )

    def _id(self, path: Path) -> str:
        stem = without_suffix(path.name.removesuffix(path.suffix))
        digits = re.search(r"[0-9]+$", stem)
        try:
            return self.naming.format(stem=stem, number=int(digits[0]) if digits else None)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ValueError(
                f"{path}: the name does not fit {self.naming!r}: use {{stem}}, or {{number}} for numbers"
            ) from None


def _first(content: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((content[name] for name in names if name in content), None)
