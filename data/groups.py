"""Training groups: several captions of one image that share one pass through the image tower."""

from itertools import pairwise

import numpy as np

from data.samples import Split


def packed_groups(
    split: Split,
    captions_per_image: int,
    seed: int,
    epoch: int,
    *,
    captions_per_request: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The groups of one epoch as two arrays: rows int64 [N] and bounds int64 [G + 1].

    Group g is `rows[bounds[g]:bounds[g + 1]]`: at most `captions_per_image` rows of one image. Every row occurs once,
    or with `captions_per_request` at most so many rows, drawn anew every epoch, of each image and style. An image with
    more captions than that is divided into groups whose sizes differ by at most one, so that steps cost about the same.
    Composition and order depend on (seed, epoch) only.

    Raises ValueError if `captions_per_image` or `captions_per_request` is below 1.
    """
    for name, most in (("captions_per_image", captions_per_image), ("captions_per_request", captions_per_request)):
        if most is not None and most < 1:
            raise ValueError(f"train.{name} is {most}: it must be at least 1")
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(_drawn(split, captions_per_request, rng))
    shuffled = shuffled[np.argsort(split.row_images[shuffled], kind="stable")]  # by image, in random order within one
    sizes = _group_sizes(np.bincount(split.row_images[shuffled]), captions_per_image)
    starts = np.cumsum(sizes) - sizes
    order = rng.permutation(len(sizes))
    bounds = np.concatenate([[0], np.cumsum(sizes[order])])
    # Row r of the result comes from its group's start plus its position inside the group.
    source = np.repeat(starts[order] - bounds[:-1], sizes[order]) + np.arange(len(shuffled))
    return shuffled[source], bounds


def _drawn(split: Split, most: int | None, rng: np.random.Generator) -> np.ndarray:
    """int64 [rows]: at most `most` random rows of each image and style; all rows where that is None."""
    bounds = split.request_bounds
    if most is None:
        return np.arange(len(split))
    if most == 1:
        return rng.integers(bounds[:-1], bounds[1:])
    request = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((rng.random(len(split)), request))  # rows of a request stay together, in random order
    place = np.arange(len(split)) - bounds[:-1][request]
    return order[place < most]


def _group_sizes(captions: np.ndarray, limit: int) -> np.ndarray:
    """int64 [G]: sizes of the groups, image after image, of images with `captions` [I] captions each."""
    parts = -(-captions // limit)
    owner = np.repeat(np.arange(len(captions)), parts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    quotient, remainder = np.divmod(captions, parts)
    sizes: np.ndarray = quotient[owner] + (position < remainder[owner])
    return sizes


def training_groups(split: Split, captions_per_image: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The groups of one epoch, each an int64 array of at most `captions_per_image` caption rows of ONE image.

    Every caption occurs exactly once; the same (seed, epoch) gives the same list. See `packed_groups`.
    """
    rows, bounds = packed_groups(split, captions_per_image, seed, epoch)
    return [rows[start:stop] for start, stop in pairwise(bounds)]
