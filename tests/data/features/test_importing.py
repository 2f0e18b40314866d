"""Foreign feature files into stores; stores joined and cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.features import (
    FeatureStore,
    Regions,
    check_store,
    import_features,
    merge_stores,
    open_stores,
    read_ids,
    subset_store,
)
from tests.data.features.made import coded, made, row, same, write_tsv


def test_tsv_with_fixed_and_variable_boxes(tmp_path: Path) -> None:
    rows = [made("a"), made("b", seed=1)]
    path = write_tsv(tmp_path / "fixed.tsv", *map(row, rows))
    info = import_features([path], tmp_path / "fixed", dtype="float32", detector="faster R-CNN")
    assert (info.boxes, info.images, info.detector) == (3, 2, "faster R-CNN")
    assert info.origin[0]["bytes"] == path.stat().st_size
    store = FeatureStore(tmp_path / "fixed")
    assert all(same(store[one.image_id], one) for one in rows)
    path = write_tsv(tmp_path / "variable.tsv", row(made("a", boxes=2)), row(made("b", boxes=7)))
    assert import_features([path], tmp_path / "variable").boxes is None
    assert [len(FeatureStore(tmp_path / "variable")[name]) for name in "ab"] == [2, 7]
    assert check_store(tmp_path / "variable") == []


def test_tsv_without_the_last_line_end_and_with_a_header(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", b"img_id\timg_h\r\n", row(made("a")), row(made("b")).rstrip())
    assert import_features([path], tmp_path / "store").images == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row(made("b"))[:100], "columns where 10 are needed: the row is cut off"),
        (row(made("b")).rstrip()[:-7], "features is not whole base64"),
        (row(made("b"), features=coded(made("b").features[0, :2])), "2 numbers of features do not fit 3 boxes"),
        (row(made("b"), boxes=coded(np.zeros((2, 4), np.float32))), "boxes has 8 numbers where 12 are needed"),
        (row(made("b"), num_boxes=4), "objects_id has 3 numbers where 4 are needed"),
        (row(made("b"), num_boxes="x"), "num_boxes is b'x', no number"),
        (row(made("b"), num_boxes=0), "num_boxes is 0"),
        (row(made("a", seed=1)), "the id is there already"),
        (row(made("b", width=5)), "5 numbers a region"),
        (row(made("b"), img_w=9), "outside the picture of 9 x 40 pixels"),
    ],
)
def test_damaged_rows_are_named_and_nothing_is_left(tmp_path: Path, line: bytes, message: str) -> None:
    path = write_tsv(tmp_path / "a.tsv", row(made("a")), line)
    with pytest.raises(ValueError, match=rf"a.tsv: row 2.*{message}"):
        import_features([path], tmp_path / "out/store")
    assert list((tmp_path / "out").iterdir()) == []


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder of features"):
        import_features([tmp_path / "a.tsv"], tmp_path / "store")
    with pytest.raises(ValueError, match=r"no .npy or .npz files"):
        import_features([tmp_path], tmp_path / "store")
    with pytest.raises(ValueError, match="a TSV file holds regions, no grid"):
        import_features([write_tsv(tmp_path / "a.tsv", row(made("a")))], tmp_path / "store", grid=(7, 7))


def test_one_file_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    one = made("b.v2")
    np.save(folder / "deep/a.jpg.npy", one.features)
    np.savez(folder / "b.v2.npz", x=one.features)
    import_features([folder], tmp_path / "store", dtype="float32")
    store = FeatureStore(tmp_path / "store")
    assert list(store) == ["b.v2", "a"]
    assert np.array_equal(store["a"].features, one.features)
    assert store["a"].boxes is None


def test_one_file_a_picture_with_boxes(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    one = made("a")
    content: dict[str, Any] = {"features": one.features, "bbox": one.boxes, **one.labels}
    np.savez(folder / "a.npz", **content, image_h=40, image_w=50)
    import_features([folder], tmp_path / "store", dtype="float32")
    assert same(FeatureStore(tmp_path / "store")["a"], one)
    np.savez(folder / "a.npz", **content)
    with pytest.raises(ValueError, match="boxes without image_h and image_w"):
        import_features([folder], tmp_path / "other")


def test_grids_flat_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    grid = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.save(folder / "a.npy", grid)
    np.savez(folder / "b.npz", x=grid.reshape(4, 3))
    info = import_features([folder], tmp_path / "store", dtype="float32", grid=(2, 2), stride=32)
    assert (info.grid, info.stride, info.boxes) == ((2, 2), 32, 4)
    store = FeatureStore(tmp_path / "store")
    assert np.array_equal(store["a"].features, store["b"].features)
    with pytest.raises(ValueError, match=r"features of shape \(2, 2, 3\), not .* nor a grid of \(3, 3\)"):
        import_features([folder], tmp_path / "other", grid=(3, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([{"a": 1}], dtype=object), "cannot read the array"),
        (np.arange(6).reshape(2, 3), "the features are int64"),
        (np.zeros((2, 3, 4), np.float32), r"features of shape \(2, 3, 4\)"),
    ],
)
def test_arrays_that_are_no_features(tmp_path: Path, content: np.ndarray, message: str) -> None:
    (tmp_path / "files").mkdir()
    np.save(tmp_path / "files/a.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"a.npy.*{message}"):
        import_features([tmp_path / "files"], tmp_path / "store")


def stored(path: Path, *regions: Regions, dtype: str = "float16") -> Path:
    tsv = write_tsv(path.with_suffix(".tsv"), *map(row, regions))
    import_features([tsv], path, dtype=dtype, detector=path.name)
    return path


def test_merged_and_cut_again(tmp_path: Path) -> None:
    first = stored(tmp_path / "first", made("a"), made("b", boxes=5))
    second = stored(tmp_path / "second", made("c"))
    info = merge_stores([first, second], tmp_path / "all")
    assert (info.images, info.dtype, info.detector, len(info.origin)) == (3, "float16", "first, second", 2)
    assert list(FeatureStore(tmp_path / "all")) == ["a", "b", "c"]
    subset_store(tmp_path / "all", ["c", "b.jpg", "c"], tmp_path / "some")
    some = FeatureStore(tmp_path / "some")
    assert list(some) == ["c", "b"]
    assert same(some["b"], FeatureStore(first)["b"])
    assert check_store(tmp_path / "some") == []
    with pytest.raises(ValueError, match=r"no features of 'x' \(2 such\)"):
        subset_store(first, ["x", "a", "y"], tmp_path / "none")


def test_stores_that_do_not_go_together(tmp_path: Path) -> None:
    first = stored(tmp_path / "first", made("a"))
    with pytest.raises(ValueError, match="dtype is float32, and float16"):
        merge_stores([first, stored(tmp_path / "typed", made("b"), dtype="float32")], tmp_path / "all")
    with pytest.raises(ValueError, match="width is 5, and 4"):
        merge_stores([first, stored(tmp_path / "wide", made("b", width=5))], tmp_path / "all")
    with pytest.raises(ValueError, match=r"again: row 0 \(picture 'a'\): the id is there already"):
        merge_stores([first, stored(tmp_path / "again", made("a"))], tmp_path / "all")
    with pytest.raises(ValueError, match="no stores to merge"):
        merge_stores([], tmp_path / "all")


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    path = stored(tmp_path / "first", made("a"))
    record = json.loads((path / "store.json").read_text())
    assert record["origin"][0]["file"].endswith("first.tsv")
    assert len(record["origin"][0]["sha256"]) == 64


def test_numbers_become_names(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    np.save(folder / "7.npy", np.ones((2, 3), np.float32))
    import_features([folder], tmp_path / "store", naming="CLEVR_val_{number:06d}")
    assert list(FeatureStore(tmp_path / "store")) == ["CLEVR_val_000007"]
    np.save(folder / "x.npy", np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"x.npy: the name does not fit"):
        import_features([folder], tmp_path / "other", naming="CLEVR_val_{number:06d}")


def test_several_stores_read_as_one(tmp_path: Path) -> None:
    first, second = stored(tmp_path / "first", made("a")), stored(tmp_path / "second", made("b", boxes=5))
    joined = open_stores([first, second])
    assert (len(joined), list(joined), joined.missing(["a", "b", "c"])) == (2, ["a", "b"], ["c"])
    assert same(joined["b"], FeatureStore(second)["b"])
    assert isinstance(open_stores([first]), FeatureStore)
    with pytest.raises(KeyError, match="no features of picture 'c'"):
        joined["c"]
    with pytest.raises(ValueError, match="width is 5, and 4"):
        open_stores([first, stored(tmp_path / "wide", made("c", width=5))])
    (tmp_path / "files").mkdir()
    np.save(tmp_path / "files/d.npy", np.ones((3, 4), np.float32))
    import_features([tmp_path / "files"], tmp_path / "bare")
    with pytest.raises(ValueError, match="it has not the arrays of"):
        open_stores([first, tmp_path / "bare"])
    with pytest.raises(ValueError, match="no feature stores"):
        open_stores([])


def test_ids_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\n\nb \n")
    assert read_ids(tmp_path / "ids.txt") == ["a", "b"]
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(ValueError, match="no ids"):
        read_ids(tmp_path / "ids.txt")
