"""The command `features`: stores of region and grid features, made, joined, cut and checked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.features import check_store, import_features, merge_stores, read_ids, subset_store
from data.features.extract import extract_grids
from data.features.nlvr1 import build_nlvr1_store
from data.features.store import StoreInfo
from data.features.vcr import build_vcr_store
from data.pictures import Pictures
from data.questions import read_questions
from models.towers.named import tower_named


def run_features(action: str, **arguments: Any) -> dict[str, Any]:
    """One of `import`, `nlvr1`, `vcr`, `merge`, `subset`, `check` and `extract`, with its arguments.

    Returns what the new store holds, or the `faults` that `check` found. Raises ValueError as these do.
    """
    return _ACTIONS[action](**arguments)


def summary(info: StoreInfo) -> dict[str, Any]:
    """What a store holds, for a line of JSON."""
    names = ("images", "rows", "width", "dtype", "boxes", "grid", "stride", "detector")
    return {name: getattr(info, name) for name in names}


def _import(
    sources: Sequence[str], out: str, *, dtype: str, detector: str, grid: str | None, naming: str
) -> dict[str, Any]:
    """`grid` is "7x7" where the arrays of a folder are grids."""
    cells = None if grid is None else _grid(grid)
    return summary(import_features(sources, out, dtype=dtype, detector=detector, grid=cells, naming=naming))


def _nlvr1(files: Sequence[str], out: str) -> dict[str, Any]:
    """Of NLVR's drawings, from the boxes that its files of questions describe."""
    return summary(build_nlvr1_store(read_questions("nlvr1", format="nlvr1", questions=list(files)), out))


def _vcr(
    files: Sequence[str], images: Sequence[str], out: str, *, tower: str, side: int, batch: int, dtype: str
) -> dict[str, Any]:
    """Of VCR's pictures: the whole and every object."""
    found = tower_named(f"{tower}@{side}")
    return summary(
        build_vcr_store(
            files,
            Pictures(list(images)),
            out,
            tower=lambda pixels: found.grid(pixels, 1),
            prepare=found.prepare,
            detector=f"objects of VCR, {found.name}",
            batch_size=batch,
            dtype=dtype,
        )
    )


def _merge(stores: Sequence[str], out: str) -> dict[str, Any]:
    return summary(merge_stores(stores, out))


def _subset(store: str, ids: str, out: str) -> dict[str, Any]:
    """`ids`: a file with one a line."""
    return summary(subset_store(store, read_ids(ids), out))


def _check(store: str) -> dict[str, Any]:
    return {"store": store, "faults": check_store(store)}


def _extract(
    images: Sequence[str], out: str, *, tower: str, grid: int, side: int, batch: int, dtype: str
) -> dict[str, Any]:
    """Of every picture in folders and zip files, by a frozen network; an interrupted call goes on."""
    found = tower_named(f"{tower}@{side}")
    pictures = Pictures(list(images))
    info = extract_grids(
        pictures,
        pictures.ids(),
        Path(out),
        tower=lambda pixels: found.grid(pixels, grid),
        prepare=found.prepare,
        cells=grid,
        detector=found.name,
        batch_size=batch,
        dtype=dtype,
        stride=side // grid,
    )
    return summary(info)


def _grid(text: str) -> tuple[int, int]:
    rows, cross, columns = text.partition("x")
    if not (rows.isdecimal() and cross and columns.isdecimal()):
        raise ValueError(f"--grid {text}: write rows x columns, such as 7x7")
    return int(rows), int(columns)


_ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "import": _import,
    "nlvr1": _nlvr1,
    "vcr": _vcr,
    "merge": _merge,
    "subset": _subset,
    "check": _check,
    "extract": _extract,
}
