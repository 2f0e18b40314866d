"""Several feature stores read as one, without copying them."""

from collections.abc import Iterable, Iterator, Sequence

from data.features.regions import Regions
from data.features.store import FeatureStore, PathLike, StoreInfo


class JoinedStores:
    """Looks a picture up in each store in turn; otherwise as `FeatureStore`. `info` is that of the first."""

    def __init__(self, paths: Sequence[PathLike]) -> None:
        """Raises ValueError for no stores, and for one of another width, grid or set of columns than the first."""
        if not paths:
            raise ValueError("no feature stores: name at least one")
        self.stores = [FeatureStore(path) for path in paths]
        first = self.stores[0]
        for store in self.stores[1:]:
            for name in ("width", "grid", "stride"):
                mine, other = getattr(first.info, name), getattr(store.info, name)
                if mine != other:
                    raise ValueError(
                        f"{store.path}: {name} is {other}, and {mine} in {first.path}: use stores of one kind"
                    )
            if set(store.info.arrays) != set(first.info.arrays):
                raise ValueError(f"{store.path}: it has not the arrays of {first.path}: use stores of one kind")

    @property
    def info(self) -> StoreInfo:
        return self.stores[0].info

    def __len__(self) -> int:
        return sum(len(store) for store in self.stores)

    def __iter__(self) -> Iterator[str]:
        return (image_id for store in self.stores for image_id in store)

    def __contains__(self, image_id: object) -> bool:
        return any(image_id in store for store in self.stores)

    def __getitem__(self, image_id: str) -> Regions:
        for store in self.stores:
            if image_id in store:
                return store[image_id]
        places = ", ".join(store.path for store in self.stores)
        raise KeyError(f"{places}: no features of picture {image_id!r}: extract them, or use another store")

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Those of the ids that no store has."""
        return [image_id for image_id in image_ids if image_id not in self]


def open_stores(paths: Sequence[PathLike]) -> FeatureStore | JoinedStores:
    """One store, or several as one."""
    return FeatureStore(paths[0]) if len(paths) == 1 else JoinedStores(paths)
