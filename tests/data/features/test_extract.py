"""Grid features of pictures: in batches, resumable."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.features import FeatureStore
from data.features.extract import extract_grids, square
from data.features.nlvr1 import build_nlvr1_store, regions_of
from data.pictures import Pictures
from data.questions import Question


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    (tmp_path / "images").mkdir()
    for shade in range(6):
        image = Image.new("RGB", (10, 8), (40 * shade, 0, 0))
        image.paste((0, 0, 200), (5, 0, 10, 8))  # the right half is blue
        image.save(tmp_path / f"images/{shade}.png")
    return Pictures(tmp_path / "images")


class Tower:
    """Mean red and blue of each cell; counts the pictures it has seen and fails after some."""

    def __init__(self, cells: int, fail_after: int = 10**6, rows: bool = True) -> None:
        self.cells, self.fail_after, self.rows, self.seen = cells, fail_after, rows, 0

    def __call__(self, pixels: Tensor) -> Tensor:
        if self.seen + len(pixels) > self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), self.cells)[:, [0, 2]]
        return grid.flatten(2).transpose(1, 2) if self.rows else grid


def extract(pictures: Pictures, out: Path, tower: Tower, cells: int = 2, **changes: object) -> FeatureStore:
    settings: dict = {"prepare": square(8), "cells": cells, "detector": "means", "batch_size": 2, "dtype": "float32"}
    extract_grids(pictures, pictures.ids(), out, tower=tower, **(settings | changes))
    return FeatureStore(out)


@pytest.mark.parametrize("rows", [True, False])
def test_cells_are_row_by_row(tmp_path: Path, pictures: Pictures, rows: bool) -> None:
    store = extract(pictures, tmp_path / "store", Tower(2, rows=rows), stride=4)
    assert (store.info.grid, store.info.stride, len(store)) == ((2, 2), 4, 6)
    grid = store["3"]
    assert grid.size == (8, 10)
    assert grid.features[:, 0].tolist() == pytest.approx([120, 0, 120, 0], abs=15)
    assert grid.features[:, 1].tolist() == pytest.approx([0, 200, 0, 200], abs=15)


def test_an_interrupted_extraction_goes_on(tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.features.extract._PART", 2)
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, tmp_path / "store", Tower(2, fail_after=4))
    assert not (tmp_path / "store").exists()
    with pytest.raises(ValueError, match="an unfinished extraction with other settings"):
        extract(pictures, tmp_path / "store", Tower(4), cells=4)
    tower = Tower(2)
    store = extract(pictures, tmp_path / "store", tower)
    assert tower.seen == 2
    whole = extract(pictures, tmp_path / "whole", Tower(2))
    assert all(np.array_equal(store[name].features, whole[name].features) for name in pictures.ids())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "store", "whole"]


def test_refusals(tmp_path: Path, pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"the tower gives \(2, 9, 2\) for 2 pictures and a grid of 2 x 2"):
        extract(pictures, tmp_path / "store", Tower(3))
    with pytest.raises(ValueError, match="batch_size 0"):
        extract(pictures, tmp_path / "other", Tower(2), batch_size=0)
    (tmp_path / "images/9.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot decode picture '9'"):
        extract(pictures, tmp_path / "third", Tower(2))
    (tmp_path / "fourth").mkdir()
    with pytest.raises(ValueError, match="it is there already"):
        extract(pictures, tmp_path / "fourth", Tower(2))


def test_nlvr1_items_are_regions(tmp_path: Path) -> None:
    item = {"type": "circle", "color": "Black", "size": 20, "x_loc": 5, "y_loc": 90}
    boxes = [[], [item], []]
    one = regions_of("4-1-0", boxes)
    assert one.features.tolist() == [[0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0]]
    assert one.boxes is not None
    assert one.boxes.tolist() == [[155, 90, 175, 100]]
    questions = [Question(str(n), ("4-1-0",), "A circle.", "true", extra={"boxes": boxes}) for n in range(2)]
    assert build_nlvr1_store(questions, tmp_path / "store").images == 1
    with pytest.raises(ValueError, match="an item's size is 15"):
        regions_of("a", [[item | {"size": 15}]])
