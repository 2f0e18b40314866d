"""Features of VCR's pictures: the whole of each and every object's box, cut out and seen by a frozen network.

Row 0 is the whole picture, row n + 1 the object n of its questions, as the metadata beside the pictures list them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from data.features.regions import Regions
from data.features.store import PathLike, StoreInfo
from data.features.writer import new_store
from data.pictures import Pictures
from data.questions.vcr import Still, parse_still, read_stills

_LEAST = 1.0  # pixels along each side of what is cut out


def build_vcr_store(
    files: Iterable[PathLike],
    pictures: Pictures,
    out: PathLike,
    *,
    tower: Callable[[Tensor], Tensor],
    prepare: Callable[[Image.Image], np.ndarray],
    detector: str,
    batch_size: int = 32,
    dtype: str = "float16",
) -> StoreInfo:
    """A store of the pictures that VCR's JSON lines ask about, in order of first mention.

    `pictures` have the metadata files, too, under the names that the questions give. `prepare` makes an array
    [3, H, W] of a picture, `tower` [B, 1, D] of a batch of these.

    Raises ValueError for a picture or metadata that is missing or broken, and if `out` exists.
    """
    stills: dict[str, tuple[str, int]] = {}
    for file in files:
        for image_id, metadata, objects in read_stills(file):
            stills.setdefault(image_id, (metadata, objects))
    with new_store(out, dtype=dtype) as writer:
        for image_id, (metadata, objects) in tqdm(stills.items(), desc="extracting", delay=2, leave=False):
            still = parse_still(image_id, pictures.read(metadata), metadata, objects)
            writer.add(_regions(still, pictures.open(image_id), tower, prepare, batch_size, dtype), image_id)
        origin = {"pictures": list(pictures.places), "files": len(stills)}
        return writer.finish(detector, [origin], None)


def _regions(
    still: Still,
    image: Image.Image,
    tower: Callable[[Tensor], Tensor],
    prepare: Callable[[Image.Image], np.ndarray],
    batch_size: int,
    dtype: str,
) -> Regions:
    boxes = whole_and_objects(still, image.size)
    found = []
    for chunk in _chunks(boxes, batch_size):
        pixels = torch.from_numpy(np.stack([prepare(image.crop(tuple(box))) for box in chunk]))
        with torch.inference_mode():
            found.append(tower(pixels).flatten(1).to(getattr(torch, dtype)).numpy())
    return Regions(still.image_id, np.concatenate(found), boxes, (image.height, image.width))


def whole_and_objects(still: Still, size: tuple[int, int]) -> np.ndarray:
    """float32 [1 + objects, 4]: boxes in pixels of a picture of (width, height) `size`, inside it and not empty.

    The metadata's pixels are scaled where the picture was resized since.
    """
    width, height = size
    scale = np.array([width, height, width, height], np.float32) / np.array(2 * [still.size[1], still.size[0]])
    boxes = np.array([[0, 0, still.size[1], still.size[0]], *still.boxes], np.float32) * scale
    start = np.clip(boxes[:, :2], 0, np.array([width, height]) - _LEAST)
    end = np.clip(np.maximum(boxes[:, 2:], start + _LEAST), 0, [width, height])
    return np.concatenate([start, end], axis=1).astype(np.float32)


def _chunks(rows: Any, size: int) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
