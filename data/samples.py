"""Samples and splits: what every reader produces and every loader consumes.

A split of a real data set holds hundreds of thousands of short strings. As Python objects they would be copied, page by
page, into every loader worker (touching a reference count dirties the page), so a split keeps them in a few flat
buffers, which forked workers share and spawned ones receive in one cheap pickle.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, overload

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One caption of one image in one style.

    `style` is written as in the style list; a name that is not in the list stays as the data has it. `references` are
    all captions of this image in this style, `caption` among them.
    """

    image: str
    image_id: str
    style: str
    caption: str
    references: tuple[str, ...]


class Row(NamedTuple):
    """What a reader yields: one caption with its image's path and id and its style's name."""

    image: str
    image_id: str
    style: str
    caption: str


class PackedStrings(Sequence[str]):
    """An immutable sequence of strings in one UTF-8 buffer; `[i]` decodes only the i-th.

    Lone surrogates, which JSON escapes can carry, survive the round trip.
    """

    __slots__ = ("_blob", "_offsets")

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._blob = b"".join(encoded)
        self._offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in encoded], out=self._offsets[1:])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        i = range(len(self))[index]
        return self._blob[self._offsets[i] : self._offsets[i + 1]].decode("utf-8", "surrogatepass")


class Split:
    """An immutable split: N captions of `n_images` images; `len(split)` is N and `split[i]` a `Sample`.

    Rows are ordered by image (in order of first appearance) and within an image by style (likewise), so that the rows
    of one image, and those of one (image, style), are neighbours. `styles` is the style list in file order;
    `unknown_styles` are the names that occur in the data but not in that list.
    """

    def __init__(self, name: str, styles: Sequence[str], rows: Iterable[Row]) -> None:
        """Packs `rows`. Images are told apart by id.

        Raises ValueError if there are no rows, or if one image id comes with two different files.
        """
        self.name = name
        self.styles = tuple(styles)
        style_index = {style: k for k, style in enumerate(self.styles)}
        image_index: dict[str, int] = {}
        images: list[str] = []
        keyed: dict[tuple[int, int], list[str]] = {}
        for image, image_id, style, caption in rows:
            j = image_index.setdefault(image_id, len(image_index))
            if j == len(images):
                images.append(image)
            elif images[j] != image:
                raise ValueError(f"{name}: image id {image_id!r} means both {images[j]} and {image}: make ids unique")
            k = style_index.setdefault(style, len(style_index))
            keyed.setdefault((j, k), []).append(caption)
        if not keyed:
            raise ValueError(f"{name}: the split is empty: check the annotation file and the split's name in it")
        # Sorted by image only: the sort is stable, so the styles of an image stay in order of first appearance.
        groups = sorted(keyed.items(), key=lambda item: item[0][0])
        counts = [len(captions) for _, captions in groups]
        self._names = tuple(style_index)
        self.image_paths = PackedStrings(images)
        self.image_ids = PackedStrings(image_index)
        self._captions = PackedStrings(caption for _, captions in groups for caption in captions)
        self._group_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)  # [groups + 1]
        self._group_image = np.array([j for (j, _), _ in groups], dtype=np.int32)  # [groups]
        self._group_style = np.array([k for (_, k), _ in groups], dtype=np.int32)  # [groups]
        first_groups = np.flatnonzero(np.diff(self._group_image, prepend=-1))
        self._image_start = np.concatenate([self._group_start[first_groups], [len(self)]])  # [images + 1]

    @classmethod
    def from_samples(cls, samples: Iterable[Sample], name: str, styles: Sequence[str]) -> Self:
        """A split of these samples; references are worked out anew from the captions given."""
        return cls(name, styles, (Row(s.image, s.image_id, s.style, s.caption) for s in samples))

    @property
    def unknown_styles(self) -> tuple[str, ...]:
        """Style names that occur in the data but not in the style list."""
        return self._names[len(self.styles) :]

    @property
    def n_images(self) -> int:
        """Number of distinct images."""
        return len(self.image_paths)

    @property
    def row_images(self) -> np.ndarray:
        """int32 [N]: the image number of each row; ascending."""
        return np.repeat(self._group_image, np.diff(self._group_start))

    def __len__(self) -> int:
        return len(self._captions)

    @property
    def captions(self) -> Sequence[str]:
        """The caption of each row."""
        return self._captions

    def __getitem__(self, index: int) -> Sample:
        i = range(len(self))[index]
        group = int(np.searchsorted(self._group_start, i, side="right")) - 1
        return self._sample(group, i - int(self._group_start[group]))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def _sample(self, group: int, position: int) -> Sample:
        references = self._captions[self._group_start[group] : self._group_start[group + 1]]
        j = int(self._group_image[group])
        style = self._names[self._group_style[group]]
        return Sample(self.image_paths[j], self.image_ids[j], style, references[position], references)

    def image_rows(self, j: int) -> np.ndarray:
        """int64 [captions of image j]: the rows of the j-th image, consecutive."""
        j = range(self.n_images)[j]
        return np.arange(self._image_start[j], self._image_start[j + 1])

    def requests(self) -> list[Sample]:
        """One sample per (image, style), requests of one image together; its caption is the first reference."""
        return [self._sample(group, 0) for group in range(len(self._group_image))]

    @property
    def request_bounds(self) -> np.ndarray:
        """int64 [requests + 1]: the captions of request r, in the order of `requests`, are rows `[r]` to `[r + 1]`."""
        return self._group_start

    def take(self, rows: Iterable[int]) -> "Split":
        """The split of these rows only, with the same style list; references shrink to the captions kept.

        Raises ValueError if there are none.
        """
        return Split.from_samples((self[i] for i in rows), self.name, self.styles)

    def subset(self, image_ids: Collection[str]) -> "Split":
        """The split of these images only, in this split's order. Raises ValueError for an id it does not have."""
        wanted = set(image_ids)
        found = [j for j, image_id in enumerate(self.image_ids) if image_id in wanted]
        if len(found) < len(wanted):
            missing = sorted(wanted.difference(self.image_ids))
            raise ValueError(f"{self.name}: no image with id {missing[0]!r} ({len(missing)} such): choose others")
        return self.take(int(row) for j in found for row in self.image_rows(j))
