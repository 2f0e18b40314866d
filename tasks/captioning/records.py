"""The splits of a captioning data set, as a configuration names them."""

import hashlib
import logging
import os
from typing import Any

from config import Config
from data import Split, read_split
from data.demo import render
from data.doctor import Report, drop_bad, examine, in_order, look_at_images
from trainers.distributed import World

LOGGER = logging.getLogger("stylecap")


def read_annotations(config: Config, split: str) -> Split:
    """The split of that name as its file has it; the rendered set is drawn if it is not there yet.

    Raises ValueError for a split that is not configured, empty or broken.
    """
    arguments = config.reader_arguments(split)
    if config.data.format == "demo":
        render(config.demo_dir(), images=config.data.demo_images, seed=config.seed)
    return read_split(split, **arguments)


def examined(config: Config, split: Split) -> Report:
    """The doctor's report."""
    return examine(split, max_words=config.data.max_tgt_length)


def checked(config: Config, split: Split, world: World) -> Split:
    """The split without faulty records. ValueError where there are any and `data.skip_bad` is false."""
    # Every rank decodes its share: rank 0 alone would keep the others waiting, at every start.
    looks = in_order(world.gather(look_at_images(split, rank=world.rank, ranks=world.size)))
    report = world.from_main(lambda: examine(split, max_words=config.data.max_tgt_length, looks=looks))
    assert report is not None
    if report.faults and not config.data.skip_bad:
        found = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.faults.items())
        example = next(iter(report.examples[next(iter(report.faults))]), "")
        raise ValueError(
            f"split {split.name} has faults: {found} (such as {example}); see them with the command doctor, then "
            "correct the data or set data.skip_bad=true to leave these records out"
        )
    sound, skipped = drop_bad(split, report)
    if any(skipped.values()) and world.is_main:
        LOGGER.warning("split %s: skipped captions: %s", split.name, skipped)
    return sound


def open_split(config: Config, name: str) -> Split:
    """As `read_annotations`, and with `data.skip_bad` without faulty records, for which every image is looked at."""
    split = read_annotations(config, name)
    return checked(config, split, World()) if config.data.skip_bad else split


def identity(split: Split) -> dict[str, str]:
    """Digests of a split: its captions with their styles and images, and its images' names and sizes in bytes."""
    captions, images = hashlib.sha256(), hashlib.sha256()
    for sample in split:
        captions.update("\0".join((sample.image_id, sample.style, sample.caption, "")).encode("utf-8", "surrogatepass"))
    for path in split.image_paths:
        size = os.path.getsize(path) if os.path.isfile(path) else -1
        images.update(f"{os.path.basename(path)}\0{size}\0".encode("utf-8", "surrogatepass"))
    return {"training captions": captions.hexdigest(), "training images": images.hexdigest()}


def search_settings(config: Config) -> dict[str, Any]:
    """The keywords of `Captioner.caption` that a configuration sets."""
    from models.ofa.saving import ENDINGS, GENERATION, GUIDANCE

    names = ("batch_size", *GENERATION, *GUIDANCE, ENDINGS, "style_intensity")
    return {name: getattr(config.eval, name) for name in names} | {"num_workers": config.data.num_workers}
