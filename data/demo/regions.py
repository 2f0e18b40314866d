"""Region features of demo scenes, from what is drawn: no picture network.

Each object has a box and a noisy mixture of fixed random vectors for its kind and its colour, as a detector's features
hold both; the upper and the lower half of the background are regions, too. The order says nothing.
"""

import random
from functools import cache
from hashlib import blake2b

import numpy as np
from PIL import Image, ImageDraw

# The background is drawn first and takes random numbers, so positions are only known after it.
from data.demo.drawing import SIDE, _background, _positions
from data.demo.scenes import COLOURS, KINDS, PLACES, Scene
from data.features.regions import Regions

REGIONS = 4
WIDTH = 64  # numbers of a region
OBJECTS = (*KINDS, *PLACES)  # names of objects_id
ATTRIBUTES = (*COLOURS, "upper", "lower")  # names of attrs_id
_CANVAS = 192  # the drawing's own pixels, averaged down to SIDE
_BREADTH = 1.1  # objects are a little wider than high
_NOISE = 0.3


def regions(image_id: str, scene: Scene, seed: int, number: int) -> Regions:
    """The four regions of picture `number` of `data.demo.render(..., seed=seed)`: features [4, WIDTH] float32."""
    subject, other = layout(scene, random.Random(f"image {seed} {number}"))
    shown = [
        (scene.subject, scene.subject_colour, subject),
        (scene.other, scene.other_colour, other),
        (scene.place, "upper", (0.0, 0.0, float(SIDE), SIDE / 2)),
        (scene.place, "lower", (0.0, SIDE / 2, float(SIDE), float(SIDE))),
    ]
    rng = np.random.default_rng([seed, number])
    shown = [shown[row] for row in rng.permutation(REGIONS)]
    features = np.stack([_code(name) + _code(attribute) for name, attribute, _ in shown])
    features += _NOISE * rng.standard_normal(features.shape)
    sure = np.ones(REGIONS, dtype=np.float32)
    labels = {
        "objects_id": np.array([OBJECTS.index(name) for name, _, _ in shown], dtype=np.int32),
        "objects_conf": sure,
        "attrs_id": np.array([ATTRIBUTES.index(attribute) for _, attribute, _ in shown], dtype=np.int32),
        "attrs_conf": sure,
    }
    boxes = np.array([box for _, _, box in shown], dtype=np.float32)
    return Regions(image_id, features.astype(np.float32), boxes, (SIDE, SIDE), labels)


def layout(scene: Scene, rng: random.Random) -> list[tuple[float, ...]]:
    """Boxes (x1, y1, x2, y2) in pixels of the finished picture, of the subject and of the other object, as `draw` with
    an equal `rng` places them.
    """
    nowhere = ImageDraw.Draw(Image.new("RGB", (1, 1)))  # all of it is clipped
    _background(nowhere, scene.place, rng)
    return [_box(*place) for place in _positions(scene.relation, rng)]


def _box(x: float, y: float, r: float) -> tuple[float, ...]:
    corners = (x - _BREADTH * r, y - r, x + _BREADTH * r, y + r)
    return tuple(min(max(value, 0.0), float(_CANVAS)) * SIDE / _CANVAS for value in corners)


@cache
def _code(name: str) -> np.ndarray:
    """[WIDTH]: a fixed random vector for a name."""
    seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(WIDTH)
