"""Whether a feature store is what its record says: every array's hash, the index, and the numbers."""

from collections.abc import Iterator

import numpy as np
from tqdm.auto import tqdm

from data.features.arrays import digest_of
from data.features.regions import fault_of
from data.features.store import FeatureStore, PathLike

_MOST = 20  # faults that are worth listing


def check_store(path: PathLike) -> list[str]:
    """What is wrong, in words, up to 20 faults; empty for a sound store. It reads all of it.

    Raises ValueError for a store that cannot be opened.
    """
    store = FeatureStore(path)
    faults = []
    for fault in _faults(store):
        faults.append(fault)
        if len(faults) == _MOST:
            break
    return faults


def _faults(store: FeatureStore) -> Iterator[str]:
    for name, digest in store.info.arrays.items():
        if digest_of(store.array(name)) != digest:
            yield f"{store.path}: {name}.npy is not what was written (another hash): import the features anew"
        store.release()
    offsets, hashes = store.array("offsets"), store.array("hashes")
    if offsets[0] != 0 or offsets[-1] != store.info.rows or (np.diff(offsets) < 1).any():
        yield f"{store.path}: the offsets do not divide the {store.info.rows} rows: import the features anew"
        return
    if (hashes[1:] < hashes[:-1]).any():
        yield f"{store.path}: the index is not sorted: import the features anew"
    for row in tqdm(range(len(store)), "checking", delay=2, leave=False):
        regions = store.regions(row)
        found = store.row_of(regions.image_id)
        if found != row:
            yield f"{store.path}: row {row} (picture {regions.image_id!r}): the index leads to row {found}"
        fault = fault_of(regions)
        if fault:
            yield f"{store.path}: row {row} (picture {regions.image_id!r}): {fault}"
