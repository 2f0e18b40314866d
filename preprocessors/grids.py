"""Grid features of an image as the fixed number of cells that a network takes, and TRAR's questions about them.

Shapes: B questions, U pictures, T words, F numbers a cell.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from data.features.regions import Regions
from preprocessors.words import Vocabulary


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


class GridReader:
    """Word ids of a question, and the cells of its picture.

    Args:
        max_words: words that are read; what is beyond is cut.
        grid: cells a side.
        width: numbers a cell.
    """

    def __init__(self, words: Vocabulary, max_words: int, *, grid: int, width: int) -> None:
        self.words = words
        self.max_words = max_words
        self.grid = grid
        self.width = width

    def __call__(self, text: str, images: Sequence[Regions]) -> dict[str, Any]:
        """An item for `collate`. Raises ValueError for two pictures and for features of another grid or width."""
        if len(images) != 1:
            raise ValueError(f"{len(images)} pictures for a model of one a question: use a network that reads pairs")
        [regions] = images
        features = np.asarray(regions.features)
        if regions.grid is not None and len(features) == regions.grid[0] * regions.grid[1]:
            features = features.reshape(*regions.grid, -1)
        cells = grid_cells(
            features, cells=self.grid**2, width=self.width, name=f"features of picture {regions.image_id}"
        )
        return {"words": self.words.encode(text, self.max_words), "picture": regions.image_id, "cells": cells}

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`questions` [B, T], `features` [U, grid * grid, F] of each picture once, and `pictures` [B], the row of
        `features` that a question is about."""
        first: dict[str, int] = {}
        cells: list[np.ndarray] = []
        rows = []
        for item in items:
            row = first.get(item["picture"])
            # pictures that come without a store may share a name
            if row is None or not np.array_equal(cells[row], item["cells"]):
                row = first[item["picture"]] = len(cells)
                cells.append(item["cells"])
            rows.append(row)
        return {
            "questions": torch.tensor([item["words"] for item in items]),
            "features": torch.from_numpy(np.stack(cells)),
            "pictures": torch.tensor(rows),
        }
