"""Region features of NLVR's drawings from their structured boxes: no detector and no network is needed.

A drawing is 400 x 100 pixels: three boxes of 100 x 100, 150 apart. An item's features say its shape, colour, size and
box; its place is its bounding box.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data.features.regions import Regions
from data.features.store import PathLike, StoreInfo
from data.features.writer import new_store
from data.questions.records import Question

WIDTH, HEIGHT, STEP = 400, 100, 150
SHAPES = ("square", "circle", "triangle")
COLOURS = ("Yellow", "Black", "#0099ff")
SIZES = (10, 20, 30)
NUMBERS = len(SHAPES) + len(COLOURS) + len(SIZES) + 3  # one of each kind is 1, the rest 0


def regions_of(image_id: str, boxes: Sequence[Sequence[Mapping[str, Any]]]) -> Regions:
    """The items of three boxes, from left to right, as N regions of 12 numbers; N may not be 0.

    Raises ValueError for an item of another shape, colour or size.
    """
    items = [(place, item) for place, box in enumerate(boxes) for item in box]
    features = np.zeros((len(items), NUMBERS), dtype=np.float32)
    corners = np.zeros((len(items), 4), dtype=np.float32)
    shapes, colours = np.zeros((2, len(items)), dtype=np.int32)
    for row, (place, item) in enumerate(items):
        shape, colour, size = (
            _number(image_id, item, key, names)
            for key, names in (("type", SHAPES), ("color", COLOURS), ("size", SIZES))
        )
        features[row, [shape, 3 + colour, 6 + size, 9 + place]] = 1
        left, top = STEP * place + item["x_loc"], item["y_loc"]
        # a drawn item may touch the edge by a pixel
        corners[row] = (left, top, min(left + item["size"], WIDTH), min(top + item["size"], HEIGHT))
        shapes[row], colours[row] = shape, colour
    sure = np.ones(len(items), dtype=np.float32)
    labels = {"objects_id": shapes, "objects_conf": sure, "attrs_id": colours, "attrs_conf": sure}
    return Regions(image_id, features, corners, (HEIGHT, WIDTH), labels)


def build_nlvr1_store(questions: Iterable[Question], out: PathLike) -> StoreInfo:
    """A store of the drawings that questions of the format "nlvr1" ask about."""
    seen: set[str] = set()
    with new_store(out, dtype="float32") as writer:
        for question in questions:
            (image_id,) = question.images
            if image_id not in seen:
                seen.add(image_id)
                writer.add(regions_of(image_id, question.extra["boxes"]), f"question {question.question_id}")
        return writer.finish("structured representations", [{"data": "NLVR", "files": len(seen)}], None)


def _number(image_id: str, item: Mapping[str, Any], key: str, names: Sequence[Any]) -> int:
    if item.get(key) not in names:
        raise ValueError(
            f"{image_id}: an item's {key} is {item.get(key)!r}: it must be one of {', '.join(map(str, names))}"
        )
    return names.index(item[key])
