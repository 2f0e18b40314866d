"""Attention with one span an image: only what lies in the chosen span is computed.

A window of order r around a cell lies in the 2r + 1 grid rows around its own. So each grid row of queries meets the
keys of those rows alone, which are neighbours in memory. Shapes: B images, H heads, N = grid² cells, E width of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.trar.masked_attention import masked_attention
from models.trar.spans import outside_window


def chosen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    choice: Tensor,
    orders: Sequence[int],
    grid: int,
    padding: Tensor | None = None,
) -> Tensor:
    """Each image's attention with span `orders[choice]` -> [B, H, N, E]; there is no dropout here.

    Args:
        query, key, value: [B, H, N, E].
        choice: [B], which of the orders.
        padding: [B, N] bool, True at cells that are not there.
    """
    mixed = torch.empty_like(value)
    for index in choice.unique().tolist():
        images = (choice == index).nonzero().squeeze(1)
        one_span = _whole if orders[index] == 0 or 2 * orders[index] + 1 >= grid else _banded
        gone = None if padding is None else padding[images]
        mixed[images] = one_span(query[images], key[images], value[images], gone, orders[index], grid)
    return mixed


def _whole(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, order: int, grid: int) -> Tensor:
    """The span covers as many grid rows as there are, or all cells: a mask over all of them."""
    hidden = None if padding is None else padding[:, None, None, :]
    if order:
        window = outside_window(grid, order).to(query.device)
        hidden = window if hidden is None else hidden | window
    return masked_attention(query, key, value, hidden)


def _banded(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, order: int, grid: int) -> Tensor:
    """Keys of 2 · order + 1 grid rows for each grid row of queries; a query without a real key sees all cells alike."""
    here = torch.zeros(1, grid * grid, dtype=torch.bool, device=query.device) if padding is None else padding
    gone = _bands(here[:, None, :, None], order, grid, fill=True).squeeze(-1).unsqueeze(3)  # [B, 1, grid, 1, band]
    column = torch.arange(grid, device=query.device)
    aside = ((column[:, None] - column).abs() > order).repeat(1, 2 * order + 1)  # [grid, band]
    hidden = gone | aside
    mixed = masked_attention(
        query.unflatten(2, (grid, grid)), _bands(key, order, grid), _bands(value, order, grid), hidden
    )
    mixed = torch.where(hidden.all(-1, keepdim=True), value.mean(2)[:, :, None, None], mixed)
    return mixed.flatten(2, 3)


def _bands(x: Tensor, order: int, grid: int, fill: float = 0.0) -> Tensor:
    """[B, H, N, E] -> [B, H, grid, (2 · order + 1) · grid, E]: those around each grid row, `fill` beyond the edges."""
    rows = F.pad(x.unflatten(2, (grid, grid)), (0, 0, 0, 0, order, order), value=fill)
    return rows.unfold(2, 2 * order + 1, 1).permute(0, 1, 2, 5, 3, 4).flatten(3, 4)
