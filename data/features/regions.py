"""What a feature store holds of one picture: numbers for each of its regions or grid cells."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# Columns that a detector may add to a region: class and confidence of the object, and of its attribute.
LABELS = {"objects_id": "int32", "objects_conf": "float32", "attrs_id": "int32", "attrs_conf": "float32"}
_SLACK = 1e-5  # of a normalised coordinate: rounding of the detector


@dataclass(frozen=True, slots=True)
class Regions:
    """N regions of a picture, or the cells of a grid, row by row.

    Attributes:
        features: [N, D] float16 or float32.
        boxes: [N, 4] float32, x1, y1, x2, y2 in pixels; None where there are none.
        size: (height, width) of the picture in pixels; (0, 0) if unknown.
        labels: of `LABELS`, each [N], what the detector gave.
        grid: (rows, columns) where the regions are a grid, else None.
    """

    image_id: str
    features: np.ndarray
    boxes: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    grid: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def normalised_boxes(self) -> np.ndarray:
        """[N, 4] float32, x by width and y by height: 0 to 1. Of a grid without boxes, those of its cells.

        Raises ValueError if there are neither boxes nor a grid.
        """
        if self.boxes is None:
            if self.grid is None:
                raise ValueError(f"{self.image_id}: the features have no boxes: use features with boxes, or a grid")
            return grid_boxes(*self.grid)
        height, width = self.size
        return self.boxes / np.array([width, height, width, height], dtype=np.float32)


def grid_boxes(rows: int, columns: int) -> np.ndarray:
    """[rows * columns, 4] float32: the cells of a grid, row by row, as normalised boxes."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    boxes = np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1)
    return boxes.astype(np.float32)


def fault_of(regions: Regions) -> str | None:
    """What is wrong with the numbers of one picture, in words; None if nothing is."""
    count = len(regions.features)
    if regions.features.ndim != 2:
        return f"features of shape {regions.features.shape}, not [regions, numbers] nor a grid of {regions.grid}"
    if not regions.features.size:
        return f"features of shape {regions.features.shape}: at least one region and one number are needed"
    if not np.isfinite(regions.features).all():
        return "a feature is not finite"
    if regions.grid is not None and count != regions.grid[0] * regions.grid[1]:
        return f"{count} rows of features for a grid of {regions.grid[0]} x {regions.grid[1]}"
    for name, values in regions.labels.items():
        if values.shape != (count,):
            return f"{name} is of shape {values.shape} for {count} regions"
    return None if regions.boxes is None else _fault_of_boxes(regions.boxes, count, regions.size)


def _fault_of_boxes(boxes: np.ndarray, count: int, size: tuple[int, int]) -> str | None:
    if boxes.shape != (count, 4):
        return f"boxes of shape {boxes.shape} for {count} regions"
    height, width = size
    if height < 1 or width < 1:
        return f"a picture of {width} x {height} pixels"
    scaled = boxes / np.array([width, height, width, height], dtype=np.float32)
    # NaN fails both comparisons
    outside = np.flatnonzero(~((scaled >= -_SLACK) & (scaled <= 1 + _SLACK)).all(axis=1))
    if len(outside):
        return f"box {outside[0]} ({_shown(boxes[outside[0]])}) is outside the picture of {width} x {height} pixels"
    turned = np.flatnonzero((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    if len(turned):
        return f"box {turned[0]} ({_shown(boxes[turned[0]])}) ends before it begins"
    return None


def _shown(box: np.ndarray) -> str:
    return ", ".join(f"{value:.1f}" for value in box)
