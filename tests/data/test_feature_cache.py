"""Features are computed once, for the images and the tower that they belong to."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.feature_cache import FeatureCache

SHAPE = (2, 3, 1, 2)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    files = [tmp_path / f"{name}.jpg" for name in "cab"]
    for position, file in enumerate(files):
        file.write_bytes(bytes([position] * (position + 1)))
    return [str(file) for file in files]


def computed(calls: list[str]) -> Callable[[list[str]], np.ndarray]:
    """The size of each file, in all features of its first view; half of it in those of the second."""

    def compute(names: list[str]) -> np.ndarray:
        calls.extend(names)
        sizes = np.array([Path(name).stat().st_size for name in names], dtype=np.float32)
        return sizes[:, None, None, None, None] * np.array([1, 0.5]).reshape(2, 1, 1, 1) * np.ones(SHAPE)

    return compute


def test_features_are_computed_once(tmp_path, paths):
    calls: list[str] = []
    cache = FeatureCache(tmp_path / "f.bin", paths, SHAPE, "lite0", computed(calls))
    assert sorted(calls) == sorted(paths)
    assert cache[paths[2]].dtype == np.float16
    assert cache[paths[2]].tolist() == (np.array([3, 1.5]).reshape(2, 1, 1, 1) * np.ones(SHAPE)).tolist()
    again = FeatureCache(tmp_path / "f.bin", paths[::-1], SHAPE, "lite0", computed(calls))
    assert len(calls) == 3
    assert np.array_equal(again[paths[0]], cache[paths[0]])


@pytest.mark.parametrize("change", ["tower", "shape", "image"])
def test_what_belongs_to_others_is_computed_anew(tmp_path, paths, change):
    FeatureCache(tmp_path / "f.bin", paths, SHAPE, "lite0", computed([]))
    calls: list[str] = []
    shape = SHAPE
    if change == "image":
        Path(paths[0]).write_bytes(b"another")
    if change == "shape":
        shape = (2, 3, 2, 2)
        with pytest.raises(ValueError, match=r"\(2, 3, 2, 2\) were to be kept"):
            FeatureCache(tmp_path / "f.bin", paths, shape, "lite0", computed(calls))
    else:
        FeatureCache(tmp_path / "f.bin", paths, shape, "other" if change == "tower" else "lite0", computed(calls))
    assert len(calls) == 3


def test_workers_get_its_name_not_its_content(tmp_path, paths):
    cache = FeatureCache(tmp_path / "f.bin", paths, (2, 3, 1, 2), "lite0", computed([]))
    copy = pickle.loads(pickle.dumps(cache))
    assert np.array_equal(copy[paths[1]], cache[paths[1]])


def test_a_missing_image_is_named(tmp_path, paths):
    Path(paths[1]).unlink()
    with pytest.raises(ValueError, match=r"a\.jpg: cannot cache the image"):
        FeatureCache(tmp_path / "f.bin", paths, SHAPE, "lite0", computed([]))


def test_features_that_do_not_fit_are_refused(tmp_path, paths):
    with pytest.raises(ValueError, match="beyond what float16 holds"):
        FeatureCache(tmp_path / "f.bin", paths, SHAPE, "lite0", lambda names: np.full((len(names), *SHAPE), 1e6))
