"""Feature stores: region and grid features in memory-mapped arrays, made from foreign files or from pictures."""

from data.features.check import check_store
from data.features.importing import import_features, merge_stores, read_ids, subset_store
from data.features.joined import JoinedStores, open_stores
from data.features.regions import Regions, grid_boxes
from data.features.store import FeatureStore, StoreInfo
from data.features.writer import new_store

__all__ = [
    "FeatureStore",
    "JoinedStores",
    "Regions",
    "StoreInfo",
    "check_store",
    "grid_boxes",
    "import_features",
    "merge_stores",
    "new_store",
    "open_stores",
    "read_ids",
    "subset_store",
]
