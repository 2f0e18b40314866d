"""Drawn pictures and queries in the form of SHAPES (Andreas et al., 2016), to train on before its own few are tested.

    python -m data.demo.shapes OUT.npz [--pictures 6000] [--seed 1] [--without val.npz]

A picture has 3 x 3 places of 10 x 10 pixels; each holds a circle, square or triangle in red, green or blue, or nothing.
A query asks whether something is there ("is a red shape a circle") or stands next to something ("is a circle above a
square"), one or two steps away. Half of a picture's answers are true where that can be. Queries of the files named by
--without are left out: they stay new combinations.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data.plain_files import read_npz

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue")
STEPS = {"above": (-1, 0), "below": (1, 0), "left_of": (0, -1), "right_of": (0, 1)}
SIDE, PLACE, FINE = 3, 10, 8  # places a side, pixels of a place, and how much finer they are drawn
QUERIES = 8  # of a picture
_FILLED = 0.8

#: (row, column) -> (shape, colour)
Scene = dict[tuple[int, int], tuple[str, str]]
#: What is asked for, and how it stands to what: (thing, (step, ...), other thing)
Query = tuple[str, tuple[str, ...], str]


def scene(rng: random.Random) -> Scene:
    """A new picture's content."""
    places = [(row, column) for row in range(SIDE) for column in range(SIDE) if rng.random() < _FILLED]
    return {place: (rng.choice(SHAPES), rng.choice(COLOURS)) for place in places}


def holds(query: Query, content: Scene) -> bool:
    """Whether a thing is at a place that the steps lead to from the other thing, without leaving the picture."""
    thing, steps, other = query
    places = {place for place, names in content.items() if other in names}
    for step in reversed(steps):
        down, right = STEPS[step]
        moved = {(row + down, column + right) for row, column in places}
        places = {place for place in moved if min(place) >= 0 and max(place) < SIDE}
    return any(thing in content.get(place, ()) for place in places)


def queries() -> Iterator[Query]:
    """All of up to two steps."""
    things = (*COLOURS, *SHAPES)
    for steps in ((), *((one,) for one in STEPS), *((one, two) for one in STEPS for two in STEPS)):
        yield from ((thing, steps, other) for thing in things for other in things)


def words(query: Query) -> str:
    """A query as SHAPES words it: "is a red shape left of a circle", and "is a red shape red"."""
    thing, steps, other = query
    name = f"{other} shape" if other in COLOURS else other
    end = f"a {name}" if steps or other in SHAPES else other
    return " ".join(["is a", f"{thing} shape" if thing in COLOURS else thing, *steps, end]).replace("_", " ")


def layout(query: Query) -> str:
    """A query as an expression: (is red (left_of circle))."""
    thing, steps, other = query
    for step in reversed(steps):
        other = f"({step} {other})"
    return f"(is {thing} {other})"


def drawn(content: Scene, rng: random.Random) -> np.ndarray:
    """[30, 30, 3] uint8, blue first; sizes and shades vary."""
    side = SIDE * PLACE * FINE
    image = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(image)
    for (row, column), (shape, colour) in content.items():
        size = rng.randint(4 * FINE, 8 * FINE)
        left, top = (place * PLACE * FINE + (PLACE * FINE - size) // 2 for place in (column, row))
        ink = tuple(rng.randint(190, 255) if colour == one else rng.randint(0, 50) for one in COLOURS)
        box = (left, top, left + size, top + size)
        if shape == "circle":
            pen.ellipse(box, fill=ink)
        elif shape == "square":
            pen.rectangle(box, fill=ink)
        else:
            pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=ink)
    small = image.resize((SIDE * PLACE, SIDE * PLACE), Image.Resampling.BOX)
    return np.asarray(small)[..., ::-1].copy()


def render(out: str | Path, *, pictures: int, seed: int, without: Sequence[str | Path] = ()) -> None:
    """Writes the arrays `image` [N, 30, 30, 3], and for each of 8 N queries `query`, `layout`, `answer` and `picture`.

    Raises ValueError for a file of `without` that is none of SHAPES'.
    """
    left_out: set[str] = set()
    for file in without:
        content = read_npz(Path(file))
        if "query" not in content:
            raise ValueError(f"{file}: no array 'query': name a file of SHAPES")
        left_out |= set(content["query"].tolist())
    known = [query for query in queries() if words(query) not in left_out]
    rng = random.Random(seed)
    scenes = [scene(rng) for _ in range(pictures)]
    rows = [(number, query) for number, one in enumerate(scenes) for query in _asked(rng, known, one)]
    np.savez_compressed(
        out,
        image=np.stack([drawn(one, rng) for one in scenes]),
        query=np.array([words(query) for _, query in rows]),
        layout=np.array([layout(query) for _, query in rows]),
        answer=np.array([holds(query, scenes[number]) for number, query in rows]),
        picture=np.array([number for number, _ in rows]),
    )


def _asked(rng: random.Random, known: Sequence[Query], content: Scene) -> list[Query]:
    """So many queries about a picture, half of them true as far as drawing at random finds any."""
    found: dict[bool, list[Query]] = {True: [], False: []}
    for _ in range(20 * QUERIES):
        query = rng.choice(known)
        answer = holds(query, content)
        if len(found[answer]) < QUERIES // 2:
            found[answer].append(query)
    asked = found[True] + found[False]
    return asked + [rng.choice(known) for _ in range(QUERIES - len(asked))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[])
    args = parser.parse_args()
    render(args.out, pictures=args.pictures, seed=args.seed, without=args.without)


if __name__ == "__main__":
    main()
