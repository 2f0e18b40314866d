"""A drawn task for local attention: the colour of the object next to X, on a grid of 8 x 8 cells without positions.

Each picture is made of numbers, not of pixels: a cell has columns for the shape and the colour of what lies there. X
has one neighbour, whose colour is the answer, and five objects lie farther away. Nothing in a cell says where it is, so
a network that sees all cells at once cannot tell which object is the neighbour: guessing the picture's most frequent
colour is right in 38 of 100. S samples.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.demo.manifest import read_manifest, write_file
from data.features.regions import Regions
from data.features.writer import new_store
from data.files import locked

GRID, WIDTH = 8, 16
SHAPES = ("ball", "boat", "car", "cat", "fish", "house", "star", "tree")
COLOURS = ("blue", "green", "purple", "red", "white", "yellow")
#: A question's ids: three words that are always the same, the shape's, and padding. Words and answers in all.
WORDS, ANSWERS = 4 + len(SHAPES), len(COLOURS)
FEATURES = "features"
SPLITS = ("train", "val")
_FARTHER = 5
_FLAG, _ALWAYS = 14, 15
_NOISE = 0.1
_MANIFEST = "next_to.json"
_VERSION = 1


@dataclass(frozen=True)
class NextTo:
    """S samples.

    Attributes:
        features: [S, 64, 16] float32: columns 0-7 shape, 8-13 colour, 14 object, 15 one everywhere; noise on all.
        shapes: [S] int64, the shape of X; `answers`: [S] int64, the colour of its neighbour.
        colours: [S, 7] int64, those of X, of the neighbour and of the others.
    """

    features: np.ndarray
    shapes: np.ndarray
    answers: np.ndarray
    colours: np.ndarray

    def questions(self) -> np.ndarray:
        """[S, 5] int64: word ids."""
        fixed = np.broadcast_to([1, 2, 3], (len(self.shapes), 3))
        return np.column_stack([fixed, 4 + self.shapes, np.zeros_like(self.shapes)])


def next_to(rng: np.random.RandomState, samples: int) -> NextTo:
    """So many new samples."""
    features = (_NOISE * rng.standard_normal((samples, GRID**2, WIDTH))).astype(np.float32)
    features[:, :, _ALWAYS] += 1
    shapes, answers, colours = [], [], []
    for picture in features:
        objects = list(_objects(rng))
        for cell, shape, colour in objects:
            picture[cell, [shape, len(SHAPES) + colour, _FLAG]] += 1
        shapes.append(objects[0][1])
        answers.append(objects[1][2])
        colours.append([colour for _, _, colour in objects])
    return NextTo(features, np.array(shapes), np.array(answers), np.array(colours))


def _objects(rng: np.random.RandomState) -> Iterator[tuple[int, int, int]]:
    """(cell, shape, colour) of X, of its neighbour, and of five that are two or more cells away from X."""
    row, column = rng.randint(GRID, size=2)
    shape = rng.randint(len(SHAPES))
    others = [other for other in range(len(SHAPES)) if other != shape]
    rows, columns = np.divmod(np.arange(GRID**2), GRID)
    distance = np.maximum(abs(rows - row), abs(columns - column))
    yield int(row * GRID + column), shape, rng.randint(len(COLOURS))
    near = rng.choice(np.flatnonzero(distance == 1), 1)
    far = rng.choice(np.flatnonzero(distance >= 2), _FARTHER, replace=False)
    for cell in (*near, *far):
        yield int(cell), others[rng.randint(len(others))], rng.randint(len(COLOURS))


def guess_right(samples: NextTo) -> float:
    """How often the most frequent colour of a picture is the answer; of equals, the first in the list of colours."""
    counts = (samples.colours[:, :, None] == np.arange(len(COLOURS))).sum(1)
    return float((counts.argmax(1) == samples.answers).mean())


def render(directory: str | Path, *, train: int, val: int, seed: int) -> None:
    """Writes train.jsonl, val.jsonl (image, question, answer) and the feature store `features` into `directory`.

    The result depends on the numbers and the seed only. If the folder already holds it nothing is done, and of several
    processes only one works. Raises ValueError for numbers below 1, and for a folder with such files made elsewhere.
    """
    if min(train, val) < 1:
        raise ValueError(f"next_to: {train} samples to train on and {val} to validate: choose at least 1 each")
    folder = Path(directory)
    manifest = {"version": _VERSION, "train": train, "val": val, "seed": seed}
    with locked(folder / ".next_to.lock"):
        found = read_manifest(folder / _MANIFEST)
        if found == manifest:
            return
        taken = [name for name in (FEATURES, *(f"{name}.jsonl" for name in SPLITS)) if (folder / name).exists()]
        if taken and found is None:
            raise ValueError(f"{folder / taken[0]}: the drawn data would overwrite it: choose an empty folder")
        write_file(folder / _MANIFEST, json.dumps({"complete": False}))
        shutil.rmtree(folder / FEATURES, ignore_errors=True)
        _render(folder, {"train": train, "val": val}, seed)
        write_file(folder / _MANIFEST, json.dumps(manifest))


def _render(folder: Path, sizes: dict[str, int], seed: int) -> None:
    with new_store(folder / FEATURES, dtype="float16", grid=(GRID, GRID)) as store:
        for number, (name, size) in enumerate(sizes.items()):
            samples = next_to(np.random.RandomState([seed, number]), size)
            lines = []
            for row, features in enumerate(samples.features):
                image = f"{name}{row}"
                store.add(Regions(image, features, grid=(GRID, GRID)), image)
                question = f"colour next to {SHAPES[samples.shapes[row]]}?"
                lines.append(
                    json.dumps({"image": image, "question": question, "answer": COLOURS[samples.answers[row]]}) + "\n"
                )
            write_file(folder / f"{name}.jsonl", "".join(lines))
        store.finish("next_to", [], None)
