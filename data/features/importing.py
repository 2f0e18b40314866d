"""Foreign feature files into a store; stores joined and cut."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from data.features.per_image import ImageFiles
from data.features.store import FeatureStore, PathLike, StoreInfo
from data.features.tsv import TsvFile
from data.features.visualbert_files import ThFile
from data.features.writer import new_store
from data.questions.files import read_text


def import_features(
    sources: Sequence[PathLike],
    out: PathLike,
    *,
    dtype: str = "float16",
    detector: str = "",
    grid: tuple[int, int] | None = None,
    stride: int | None = None,
    naming: str = "{stem}",
) -> StoreInfo:
    """LXMERT's TSV files, VisualBERT's `.th` files, or folders of `.npy`/`.npz`, into a new store at `out`.

    `detector` is put on record; `grid` and `stride` say that the arrays of a folder are grids, `naming` makes the ids
    of a folder's pictures (see `ImageFiles`). Raises ValueError, with the file and the row, for what is damaged or does
    not fit, and then leaves nothing behind.
    """
    paths = [Path(source) for source in sources]
    readers = [ImageFiles(path, grid, naming) if path.is_dir() else _file(path, grid) for path in paths]
    with new_store(out, dtype=dtype, grid=grid) as writer:
        for reader in readers:
            for where, regions in reader:
                writer.add(regions, where)
        return writer.finish(detector, [reader.origin for reader in readers], stride)


def merge_stores(stores: Sequence[PathLike], out: PathLike) -> StoreInfo:
    """All pictures of several stores in a new one, in this order, with the type of the first.

    Raises ValueError for stores of another kind or width, and for a picture that two of them have.
    """
    opened = [FeatureStore(store) for store in stores]
    if not opened:
        raise ValueError("no stores to merge: give at least one")
    first = opened[0].info
    for store in opened[1:]:
        for name in ("dtype", "width", "grid", "stride"):
            mine, other = getattr(first, name), getattr(store.info, name)
            if mine != other:
                raise ValueError(
                    f"{store.path}: {name} is {other}, and {mine} in {opened[0].path}: merge stores of one kind"
                )
    detectors = list(dict.fromkeys(store.info.detector for store in opened if store.info.detector))
    origin = [record for store in opened for record in store.info.origin]
    with new_store(out, dtype=first.dtype, grid=first.grid) as writer:
        for store in opened:
            for row in range(len(store)):
                writer.add(store.regions(row), f"{store.path}: row {row}")
        return writer.finish(", ".join(detectors), origin, first.stride)


def subset_store(store: PathLike, image_ids: Iterable[str], out: PathLike) -> StoreInfo:
    """Only these pictures, in this order, in a new store; an id given twice counts once.

    Raises ValueError for an id that the store does not have.
    """
    source = FeatureStore(store)
    wanted = list(dict.fromkeys(image_ids))
    missing = source.missing(wanted)
    if missing:
        raise ValueError(f"{store}: no features of {missing[0]!r} ({len(missing)} such): correct the list of ids")
    rows = dict.fromkeys(source.row_of(image_id) for image_id in wanted)
    with new_store(out, dtype=source.info.dtype, grid=source.info.grid) as writer:
        for row in rows:
            assert row is not None
            writer.add(source.regions(row), f"{store}: row {row}")
        return writer.finish(source.info.detector, source.info.origin, source.info.stride)


def read_ids(path: PathLike) -> list[str]:
    """The ids of a text file, one a line. Raises ValueError for a file that cannot be read or has none."""
    ids = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not ids:
        raise ValueError(f"{path}: no ids: write one a line")
    return ids


def _file(path: Path, grid: tuple[int, int] | None) -> TsvFile | ThFile:
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder of features: check the path")
    if grid is not None:
        raise ValueError(f"{path}: a TSV file holds regions, no grid: leave grid out")
    return ThFile(path) if path.suffix == ".th" else TsvFile(path)
