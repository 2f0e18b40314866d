"""Where the words or boxes of a batch are, so that nothing is computed for padding.

States of a stream are either a grid [B, T, H] or, where padding is skipped, only the rows that are there: [N, H].
Layers work on either; only attention, which must not mix the examples of a batch, needs the grid.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """A grid of B x T places.

    Attributes:
        visible: [B, T] bool, the places that may be looked at; None where all may. A row without any is looked at as if
            it had no mask, which is what adding -10000 to all of its scores does in the original.
        places: [N] numbers b * T + t of the rows that states hold; None where states are the grid.
    """

    batch: int
    length: int
    visible: Tensor | None = None
    places: Tensor | None = None

    @classmethod
    def of(cls, batch: int, length: int, mask: Tensor | None, *, skip_padding: bool) -> Self:
        """The layout of a batch with the mask [B, T] (None: all is there); columns at the end that no row has are cut.

        With `skip_padding` one number is read back from an accelerator.
        """
        if mask is None:
            return cls(batch, length)
        visible = mask.bool()
        visible = visible | ~visible.any(1, keepdim=True)
        if not skip_padding:
            return cls(batch, length, visible)
        columns = visible.any(0).nonzero()
        length = int(columns[-1]) + 1
        visible = visible[:, :length]
        places = visible.flatten().nonzero().squeeze(1)
        if len(places) == batch * length:
            return cls(batch, length)
        return cls(batch, length, visible, places)

    @property
    def key_mask(self) -> Tensor | None:
        """For attention: [B, 1, 1, T]."""
        return None if self.visible is None else self.visible[:, None, None]

    def hold(self, grid: Tensor) -> Tensor:
        """A grid [B, at least T, ...] as states of this layout."""
        grid = grid[:, : self.length]
        return grid if self.places is None else grid.flatten(0, 1)[self.places]

    def grid(self, states: Tensor) -> Tensor:
        """States as a grid [B, T, ...], 0 where nothing is held."""
        if self.places is None:
            return states
        empty = states.new_zeros(self.batch * self.length, *states.shape[1:])
        return empty.index_copy(0, self.places, states).unflatten(0, (self.batch, self.length))

    def means(self, values: Tensor) -> Tensor:
        """A value of each row that states hold, [N] or [B * T], to the mean over the places of each example: [B]."""
        grid = values.view(self.batch, self.length) if self.places is None else self.grid(values)
        there = torch.ones_like(grid) if self.visible is None else self.visible.to(grid.dtype)
        return (grid * there).sum(1) / there.sum(1)

    def first(self, states: Tensor) -> Tensor:
        """The first row that is held of each example: [B, 1, H]."""
        if self.places is None:
            return states[:, :1]
        assert self.visible is not None
        counts = self.visible.sum(1)
        return states[counts.cumsum(0) - counts].unsqueeze(1)

    def firsts(self) -> "Layout":
        """The layout of what `first` returns."""
        return Layout(self.batch, 1)

    def repeated(self, states: Tensor, times: int) -> tuple["Layout", Tensor]:
        """Every example `times` times, one copy after the other."""
        if times == 1:
            return self, states
        visible = None if self.visible is None else self.visible.repeat_interleave(times, 0)
        places = None if self.places is None or visible is None else visible.flatten().nonzero().squeeze(1)
        layout = replace(self, batch=self.batch * times, visible=visible, places=places)
        return layout, layout.hold(self.grid(states).repeat_interleave(times, 0))


def padded_to(grid: Tensor, length: int) -> Tensor:
    """A grid [B, T, H] with rows of 0 at the end, up to `length`."""
    lacking = length - grid.shape[1]
    return torch.nn.functional.pad(grid, (0, 0, 0, lacking)) if lacking else grid
