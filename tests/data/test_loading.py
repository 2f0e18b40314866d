import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from data import Split, training_groups
from data.loading import CaptionGroupsDataset, ImageCache
from data.samples import Row

SIDE = 8


@pytest.fixture
def paths(tmp_path) -> list[str]:
    names = ["b.png", "a.png", "a longer näme.png"]
    for k, name in enumerate(names):
        Image.new("RGB", (20, 10), (k, 2 * k, 50)).save(tmp_path / name)
    return [str(tmp_path / name) for name in names]


class Loader:
    """Decodes and counts."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __call__(self, path: str) -> np.ndarray:
        self.loaded.append(path)
        return np.asarray(Image.open(path).resize((SIDE, SIDE)))


def test_the_cache_holds_what_was_loaded(tmp_path, paths):
    cache = ImageCache(tmp_path / "made" / "cache", paths + paths[:1], SIDE, Loader())
    assert len(cache) == 3
    for path in paths:
        np.testing.assert_array_equal(cache[path], Loader()(path))
    with pytest.raises(ValueError, match="read-only"):
        cache[paths[0]][0] = 1
    for absent in ("x", paths[0] + "/longer than any path in the cache", ""):
        with pytest.raises(KeyError):
            cache[absent]


def test_a_second_cache_of_the_same_images_loads_nothing(tmp_path, paths):
    ImageCache(tmp_path / "cache", paths, SIDE, Loader())
    loader = Loader()
    again = ImageCache(tmp_path / "cache", paths[::-1], SIDE, loader)
    assert loader.loaded == []
    np.testing.assert_array_equal(again[paths[1]], Loader()(paths[1]))


def _touch(path: str) -> None:
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def _shorten(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-1])


def test_the_cache_is_made_anew_when_anything_differs(tmp_path, paths):
    file = tmp_path / "cache"
    changes = [
        lambda: Image.new("RGB", (9, 9), (200, 0, 0)).save(paths[0]),
        lambda: _touch(paths[1]),
        lambda: os.rename(paths[2], tmp_path / "other.png"),
        lambda: _shorten(file),
    ]
    wanted = list(paths)
    ImageCache(file, wanted, SIDE, Loader())
    for change in changes:
        change()
        wanted = [path if os.path.exists(path) else str(tmp_path / "other.png") for path in wanted]
        loader = Loader()
        cache = ImageCache(file, wanted, SIDE, loader)
        assert sorted(loader.loaded) == sorted(wanted)
        np.testing.assert_array_equal(cache[wanted[0]], Loader()(wanted[0]))
    smaller = ImageCache(file, wanted, 4, lambda path: np.zeros((4, 4, 3), np.uint8))
    assert smaller[wanted[0]].shape == (4, 4, 3)


def test_a_failed_build_leaves_the_old_cache_and_no_litter(tmp_path, paths):
    file = tmp_path / "made" / "cache"
    ImageCache(file, paths, SIDE, Loader())
    before = file.read_bytes()

    def fails(path: str) -> np.ndarray:
        raise ValueError(f"{path}: broken")

    with pytest.raises(ValueError, match="broken"):
        ImageCache(file, paths[:2], SIDE, fails)
    with pytest.raises(ValueError, match=r"loaded as uint8 \(10, 20, 3\)"):
        ImageCache(file, paths[:2], SIDE, lambda path: np.asarray(Image.open(path)))
    assert file.read_bytes() == before
    assert sorted(os.listdir(file.parent)) == [".cache.lock", "cache"]


def test_a_missing_image_is_named(tmp_path, paths):
    with pytest.raises(ValueError, match=r"none\.png: cannot cache the image \(No such file"):
        ImageCache(tmp_path / "cache", [*paths, str(tmp_path / "none.png")], SIDE, Loader())


def test_pickling_passes_the_name_and_not_the_pixels(tmp_path, paths):
    cache = ImageCache(tmp_path / "cache", paths, 64, lambda path: np.full((64, 64, 3), 7, np.uint8))
    content = pickle.dumps(cache)
    assert len(content) < 64 * 64
    np.testing.assert_array_equal(pickle.loads(content)[paths[0]], cache[paths[0]])


def _split(paths: list[str]) -> Split:
    rows = [Row(path, str(j), style, f"{style} {j}") for j, path in enumerate(paths) for style in ("A", "B", "C")]
    return Split("train", ["A", "B", "C"], rows)


def test_items_are_the_training_groups(paths):
    split = _split(paths)
    dataset = CaptionGroupsDataset(split, 2, seed=7)
    dataset.set_epoch(3)
    groups = training_groups(split, 2, 7, 3)
    assert len(dataset) == len(groups)
    for i, group in enumerate(groups):
        expected = [split[row] for row in group]
        assert dataset[i] == {"image": expected[0].image, "image_id": expected[0].image_id, "rows": expected}
    with pytest.raises(IndexError):
        dataset[len(groups)]


def test_items_carry_cached_pixels(tmp_path, paths):
    cache = ImageCache(tmp_path / "cache", paths, SIDE, Loader())
    item = CaptionGroupsDataset(_split(paths), 3, seed=7, cache=cache)[0]
    np.testing.assert_array_equal(item["image"], Loader()(item["rows"][0].image))


def _first(items):
    return [[sample.caption for sample in item["rows"]] for item in items]


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_that_stay_alive_follow_the_epoch(tmp_path, paths, context, workers):
    split = _split(paths)
    cache = ImageCache(tmp_path / "cache", paths, SIDE, Loader())
    dataset = CaptionGroupsDataset(split, 1, seed=7, cache=cache)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=_first,
        multiprocessing_context=context,
    )
    for epoch in (0, 1, 5):
        dataset.set_epoch(epoch)
        seen = [captions for batch in loader for captions in batch]
        assert seen == [[split[row].caption for row in group] for group in training_groups(split, 1, 7, epoch)]
