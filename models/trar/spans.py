"""Which cells of an image grid attend to which: the spans that TRAR routes between.

Shapes: B images, R spans, N = grid² cells; cell (i, j) has index i * grid + j.
"""

import torch
from torch import Tensor


def outside_window(grid: int, order: int) -> Tensor:
    """[N, N] bool: True where a key lies more than `order` rows or columns away from the query.

    Raises:
        ValueError: the order is not below the grid.
    """
    if not 0 <= order < grid:
        raise ValueError(
            f"a window of order {order} does not fit a grid of {grid}x{grid} cells: choose 0 to {grid - 1}"
        )
    cells = torch.arange(grid * grid)
    row, column = cells // grid, cells % grid
    distance = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    return distance > order


def outside_spans(grid: int, orders: tuple[int, ...]) -> Tensor:
    """[R, N, N] bool: True where a key is outside a query's span; order 0 means the whole image.

    Raises:
        ValueError: an order is not below the grid.
    """
    everywhere = torch.zeros(grid * grid, grid * grid, dtype=torch.bool)
    return torch.stack([outside_window(grid, order) if order else everywhere for order in orders])


def padding_of(values: Tensor) -> Tensor:
    """What is padding: True at word ids [B, T] that are 0, and at features [B, N, D] whose D numbers are all zero."""
    return ~values.any(-1) if values.is_floating_point() else values == 0
