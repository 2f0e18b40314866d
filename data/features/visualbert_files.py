"""The original VisualBERT's files of features: `.th` files of NLVR2 and COCO, and what stands around them.

A `.th` file holds all pictures of a split: {file name: (features, boxes, confidences)}. Other files are one `.npy` a
picture (fc6 of VQA, [100, 2048]; NLVR2's, [144, 1024]), which `import_features` takes as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from data.features.regions import Regions
from data.features.store import PathLike, StoreInfo
from data.features.writer import new_store
from data.pictures import without_suffix
from data.plain_files import load_torch

#: (height, width) of a picture in pixels.
Size = tuple[int, int]


class ThFile:
    """The pictures of one file, in its order; `origin` is its record once all were read.

    Tensors are mapped from the file, not read into memory. A picture's id is its file's name without `.npz` and without
    a picture's suffix.

    Args:
        sizes: of the pictures by id, which the file does not hold. Without them the boxes, in pixels, are left out.
    """

    def __init__(self, path: PathLike, sizes: Mapping[str, Size] | None = None) -> None:
        self.path = Path(path)
        self.sizes = sizes
        self.origin: dict[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[str, Regions]]:
        """(place, regions) of each picture.

        Raises ValueError, with the picture, for a file that is damaged or holds code, and for other content.
        """
        content = load_torch(self.path)
        if not isinstance(content, Mapping) or not content:
            raise ValueError(f"{self.path}: no pictures: it must hold a dictionary of file names")
        digest = sha256()
        for name, value in tqdm(content.items(), self.path.name, unit="picture", delay=2, leave=False):
            where = f"{self.path}: {name}"
            regions = self._regions(str(name), value, where)
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(regions.features).data)
            yield where, regions
        self.origin = {"file": str(self.path), "bytes": self.path.stat().st_size, "sha256": digest.hexdigest()}

    def _regions(self, name: str, value: Any, where: str) -> Regions:
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise ValueError(f"{where}: it is not (features, boxes, confidences): use a file of VisualBERT's features")
        features, boxes, confidences = map(np.asarray, value)
        if features.dtype.kind != "f":
            raise ValueError(f"{where}: the features are {features.dtype}: store them as floating-point numbers")
        image_id = without_suffix(name.removesuffix(".npz"))
        labels = {"objects_conf": confidences.astype(np.float32, copy=False)}
        if self.sizes is None:
            return Regions(image_id, features, labels=labels)
        if image_id not in self.sizes:
            raise ValueError(f"{where}: the picture's size is not known: give the sizes of all, or of none")
        return Regions(image_id, features, boxes.astype(np.float32, copy=False), self.sizes[image_id], labels)


def import_th(
    sources: Sequence[PathLike],
    out: PathLike,
    *,
    sizes: Mapping[str, Size] | None = None,
    dtype: str = "float16",
    detector: str = "",
) -> StoreInfo:
    """`.th` files, one after the other, into a new store at `out`; `sizes` as `ThFile`, `detector` is put on record.

    Raises ValueError, with the file and the picture, for what is damaged or does not fit, and leaves nothing behind.
    """
    readers = [ThFile(source, sizes) for source in sources]
    with new_store(out, dtype=dtype, grid=None) as writer:
        for reader in readers:
            for where, regions in reader:
                writer.add(regions, where)
        return writer.finish(detector, [reader.origin for reader in readers], None)
