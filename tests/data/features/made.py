"""Made-up features: regions by seed, and LXMERT's rows of them."""

import base64
from pathlib import Path

import numpy as np

from data.features import Regions

HEIGHT, WIDTH = 40, 50
TYPES = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}


def made(name: str, boxes: int = 3, width: int = 4, seed: int = 0) -> Regions:
    rng = np.random.default_rng([seed, boxes, width])
    corners = np.sort(rng.uniform(size=(boxes, 2, 2)), axis=1).reshape(boxes, 4).astype(np.float32)
    labels: dict[str, np.ndarray] = {
        "objects_id": rng.integers(1600, size=boxes),
        "objects_conf": rng.random(boxes, dtype=np.float32),
        "attrs_id": rng.integers(400, size=boxes),
        "attrs_conf": rng.random(boxes, dtype=np.float32),
    }
    scaled = corners * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    return Regions(name, rng.random((boxes, width), dtype=np.float32), scaled, (HEIGHT, WIDTH), labels)


def row(regions: Regions, **changes: object) -> bytes:
    """LXMERT's line of one picture; `changes` replaces cells."""
    arrays = {name: values.astype(TYPES[name]) for name, values in regions.labels.items()}
    assert regions.boxes is not None
    cells: dict[str, object] = {"img_id": regions.image_id, "img_h": regions.size[0], "img_w": regions.size[1]}
    cells |= {name: coded(values) for name, values in arrays.items()}
    cells |= {"num_boxes": len(regions), "boxes": coded(regions.boxes), "features": coded(regions.features)}
    return "\t".join(str(value) for value in (cells | changes).values()).encode() + b"\r\n"


def coded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def write_tsv(path: Path, *rows: bytes) -> Path:
    path.write_bytes(b"".join(rows))
    return path


def same(first: Regions, second: Regions) -> bool:
    assert first.boxes is not None
    assert second.boxes is not None
    return (
        (first.image_id, first.size, set(first.labels)) == (second.image_id, second.size, set(second.labels))
        and np.array_equal(first.features, second.features)
        and np.array_equal(first.boxes, second.boxes)
        and all(np.array_equal(values, second.labels[name]) for name, values in first.labels.items())
    )
