"""Grid features of an image as the fixed number of cells that a network takes."""

import math
from typing import Any

import numpy as np


def grid_cells(features: Any, *, cells: int, width: int, name: str = "features") -> np.ndarray:
    """[cells, width] float32: rows beyond are cut, missing ones are zeros, which count as padding. None at all are
    fine.

    Args:
        features: [n, width] cells row by row, or [rows, columns, width] of a square grid; any floating-point type.
        name: what to call it in an error, such as its file.

    Raises:
        ValueError: the array has another width, is no square grid, or holds numbers that are not finite.
    """
    array = np.asarray(features)
    if array.ndim == 3:
        if array.shape[0] != array.shape[1]:
            raise ValueError(
                f"{name}: a grid of {array.shape[0]}x{array.shape[1]} cells is not square: pad it with rows or columns "
                "of zeros before it is stored"
            )
        if array.shape[0] ** 2 != cells:
            raise ValueError(_other_grid(name, len(array), cells))
        array = array.reshape(-1, array.shape[2])
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(
            f"{name}: shape {list(array.shape)} where [cells, {width}] is needed: the features come from another "
            "extractor; set model.config.feature_width, or use the features that the model was trained on"
        )
    padded = np.zeros((cells, width), dtype=np.float32)
    padded[: len(array)] = array[:cells]
    if not np.isfinite(padded).all():
        raise ValueError(f"{name} holds numbers that are not finite: extract it again")
    return padded


def _other_grid(name: str, side: int, cells: int) -> str:
    wanted = math.isqrt(cells)
    return (
        f"{name}: a grid of {side}x{side} cells where {wanted}x{wanted} are needed: set model.config.grid={side}, or "
        "extract other features"
    )
