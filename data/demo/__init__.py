"""The embedded data set: scenes drawn on the spot and described in several styles, in Personality-Captions form.

It is meant to be small and honest at once: a caption names two objects, their colours, how they stand to each other and
where, so a model that does not look at the image cannot know it; and each style has its own words, so a model that does
not read the style cannot either. No two images, in whatever split, show the same scene.
"""

import json
import random
import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any

from data.demo.drawing import SIDE, draw
from data.demo.manifest import read_manifest
from data.demo.scenes import SCENES, Scene, scene
from data.demo.wording import REFERENCES, STYLES, describe
from data.files import locked, replacing

# Raise it whenever pictures or wording change: folders made by another version are then made anew.
VERSION = 1

SPLITS = ("train", "val", "test")
_MANIFEST = "demo.json"
_HELD_OUT = 14  # one image in so many is for validation, as many again for the test


def render(directory: str | Path, *, images: int, seed: int) -> None:
    """Makes the data set in `directory`: images/, train.json, val.json, test.json and personalities.txt.

    `images` counts all splits; val and test get a fourteenth each. The result depends on (images, seed) only. If the
    folder already holds it nothing is done, and of several processes only one works. Raises ValueError for a number of
    images out of range, and for a folder that holds files of these names that were not made here.
    """
    if not _HELD_OUT <= images <= SCENES:
        raise ValueError(f"data.demo_images is {images}: choose a number from {_HELD_OUT} to {SCENES}")
    folder = Path(directory)
    manifest = {"version": VERSION, "images": images, "seed": seed, "side": SIDE}
    with locked(folder / ".demo.lock"):
        if read_manifest(folder / _MANIFEST) != manifest:
            _refuse_foreign_files(folder)
            # Until the last line the folder is marked as ours but unfinished.
            _write_json(folder / _MANIFEST, {"complete": False})
            _render(folder, images, seed)
            _write_json(folder / _MANIFEST, manifest)


def split_sizes(images: int) -> dict[str, int]:
    """Number of images of each split."""
    held_out = images // _HELD_OUT
    return {"train": images - 2 * held_out, "val": held_out, "test": held_out}


def scenes(images: int, seed: int) -> list[Scene]:
    """The scene of every image, all different, in the order train, val, test."""
    return [scene(number) for number in random.Random(f"scenes {seed}").sample(range(SCENES), images)]


def _render(folder: Path, images: int, seed: int) -> None:
    shutil.rmtree(folder / "images", ignore_errors=True)
    (folder / "images").mkdir()
    remaining = iter(enumerate(scenes(images, seed)))
    for name, size in split_sizes(images).items():
        records: list[dict[str, Any]] = []
        for _, (number, shown) in zip(range(size), remaining, strict=False):
            image_hash = blake2b(f"{VERSION} {seed} {number}".encode(), digest_size=8).hexdigest()
            rng = random.Random(f"image {seed} {number}")
            # Hardly compressed, and colour at full resolution: at this size the usual settings smear small objects.
            draw(shown, rng).save(folder / "images" / f"{image_hash}.jpg", quality=90, subsampling=0)
            records += _records(shown, image_hash, rng)
        _write_json(folder / f"{name}.json", records)
    with replacing(folder / "personalities.txt") as path:
        path.write_text("\n".join(STYLES) + "\n", encoding="utf-8")


def _records(shown: Scene, image_hash: str, rng: random.Random) -> list[dict[str, Any]]:
    records = []
    for style in STYLES:
        first, *others = describe(shown, style, rng, REFERENCES)
        records.append(
            {"personality": style, "image_hash": image_hash, "comment": first, "additional_comments": others}
        )
    return records


def _refuse_foreign_files(folder: Path) -> None:
    names = ("images", "personalities.txt", *(f"{name}.json" for name in SPLITS))
    taken = [name for name in names if (folder / name).exists()]
    if taken and not (folder / _MANIFEST).exists():
        raise ValueError(f"{folder / taken[0]}: the demo data would overwrite it: choose an empty folder")


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
