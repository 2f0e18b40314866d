"""Grid features cut and padded to the network's cells."""

import numpy as np
import pytest

from preprocessors.grids import grid_cells


def test_missing_rows_are_zeros_and_surplus_ones_are_cut() -> None:
    features = np.arange(6, dtype=np.float16).reshape(3, 2) + 1
    padded = grid_cells(features, cells=4, width=2)
    assert padded.dtype == np.float32
    assert padded.tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert grid_cells(features, cells=1, width=2).tolist() == [[1, 2]]
    assert grid_cells(np.zeros((0, 2)), cells=4, width=2).tolist() == [[0, 0]] * 4


def test_a_square_grid_is_flattened_row_by_row() -> None:
    grid = np.arange(8, dtype=np.float64).reshape(2, 2, 2)
    assert grid_cells(grid, cells=4, width=2).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3), r"a.npy: shape \[4, 3\] where \[cells, 2\] is needed: .*another extractor"),
        ((4,), r"shape \[4\]"),
        ((2, 3, 2), "a grid of 2x3 cells is not square"),
        ((3, 3, 2), "a grid of 3x3 cells where 2x2 are needed: set model.config.grid=3"),
        ((2, 2, 3), "another extractor"),
    ],
)
def test_features_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_cells(np.ones(shape), cells=4, width=2, name="a.npy")


def test_features_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match="not finite"):
        grid_cells(np.array([[1.0, np.nan]]), cells=4, width=2)
