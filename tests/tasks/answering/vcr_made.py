"""A made set in VCR's official form: JSON lines, metadata, pictures, and a store of their objects."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.features import Regions, new_store

OBJECTS = ["person", "person", "chair"]
WIDTH, HEIGHT, NUMBERS = 64, 48, 6


def line(number: int, split: str, draw: random.Random, *, labels: bool = True) -> dict[str, Any]:
    """The right answer says "red", the right reason "seen"."""
    answer, reason = draw.randrange(4), draw.randrange(4)
    name = f"movie/still_{number % 4}@{number % 2}"
    content: dict[str, Any] = {
        "annot_id": f"{split}-{number}",
        "img_fn": f"{name}.jpg",
        "metadata_fn": f"{name}.json",
        "objects": OBJECTS,
        "question": ["Why", "is", [number % 2], "on", "the", [2], "?"],
        "answer_choices": [[[n % 2], "is", "red" if n == answer else "blue", "."] for n in range(4)],
        "rationale_choices": [["It", "is", "seen" if n == reason else "lost", "by", [0, 1]] for n in range(4)],
    }
    return content | ({"answer_label": answer, "rationale_label": reason} if labels else {})


def write_lines(file: Path, lines: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return str(file)


def made(folder: Path) -> dict[str, Any]:
    """The section `data` of the set in `folder`; test has no labels."""
    draw = random.Random(0)
    data = {
        split: write_lines(
            folder / f"{split}.jsonl", [line(n, split, draw, labels=split != "test") for n in range(count)]
        )
        for split, count in (("train", 32), ("val", 8), ("test", 4))
    }
    return data | {"features": store(folder / "store")}


def store(path: Path) -> str:
    numbers = np.random.default_rng(0)
    with new_store(path, dtype="float32") as writer:
        for name in pictures():
            rows = numbers.random((1 + len(OBJECTS), NUMBERS), np.float32)
            writer.add(Regions(name, rows, np.array(boxes(), np.float32), (HEIGHT, WIDTH)), name)
        writer.finish("made", [], None)
    return str(path)


def pictures() -> list[str]:
    return [f"movie/still_{number}@{number % 2}.jpg" for number in range(4)]


def boxes() -> list[list[float]]:
    return [[0, 0, WIDTH, HEIGHT], [0, 0, 16, 48], [32, 0, 64, 24], [32, 24, 64, 48]]


def stills(folder: Path) -> Path:
    """Pictures whose objects are of one colour each, with metadata."""
    for number, name in enumerate(pictures()):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for place, (x1, y1, x2, y2) in enumerate(np.array(boxes()[1:], int)):
            image[y1:y2, x1:x2, place] = 60 * (number + 1)
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file, quality=95)
        found = {"boxes": [[*box, 0.9] for box in boxes()[1:]], "names": OBJECTS, "width": WIDTH, "height": HEIGHT}
        file.with_suffix(".json").write_text(json.dumps(found | {"segms": []}))
    return folder
