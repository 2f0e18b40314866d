"""NLVR2's sentences about two pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.texts import Text, cut_single, masked, single

#: Regions of each picture that are used, of the 150 in the published files.
REGIONS = 144


def sentence_text(
    vocabulary: WordPieces, sentence: Sequence[int], draws: Draws | None = None, *, limit: int = 128
) -> Text:
    """`[CLS] sentence [SEP]`; with `draws`, words are masked."""
    text = single(vocabulary, cut_single(sentence, limit))
    return text if draws is None else masked(vocabulary, text, draws)


def image_names(identifier: str) -> tuple[str, str]:
    """The names of an example's two pictures: `dev-850-0-0` -> `dev-850-0-img0.png`, `dev-850-0-img1.png`."""
    stem = identifier[:-1]
    return f"{stem}img0.png", f"{stem}img1.png"


def both_images(
    first: NDArray[np.float32], second: NDArray[np.float32], *, regions: int = REGIONS
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first `regions` rows of each picture, one after the other, and the picture of each row, 0 or 1."""
    first, second = first[:regions], second[:regions]
    types = np.repeat(np.arange(2), [len(first), len(second)])
    return np.concatenate([first, second]), types


def truth(label: str | bool | None) -> int:
    """1 for "True", 0 for "False", -1 where a test set keeps it back (the original takes 0).

    Raises:
        ValueError: anything else.
    """
    if label is None:
        return -1
    known = {"true": 1, "false": 0}
    if str(label).lower() not in known:
        raise ValueError(f"the label {label!r} is neither True nor False")
    return known[str(label).lower()]
