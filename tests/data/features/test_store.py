"""Feature stores: what goes in comes out, memory stays flat, and nothing is half-written."""

import fcntl
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.features import FeatureStore, Regions, check_store, grid_boxes, new_store
from data.features.arrays import ArrayWriter, MappedArray
from tests.data.features.made import made, same


def build(out: Path, *regions: Regions, dtype: str = "float32", grid: tuple[int, int] | None = None) -> FeatureStore:
    with new_store(out, dtype=dtype, grid=grid) as writer:
        for number, one in enumerate(regions, start=1):
            writer.add(one, f"row {number}")
        writer.finish("made up", [{"file": "none"}], 32 if grid else None)
    return FeatureStore(out)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    rows = [made("a"), made("bcd", boxes=5), made("é", boxes=1)]
    store = build(tmp_path / "store", *rows)
    assert (len(store), list(store)) == (3, ["a", "bcd", "é"])
    assert all(same(store[one.image_id], one) for one in rows)
    assert (store.info.boxes, store.info.width, store.info.rows, store.info.detector) == (None, 4, 9, "made up")
    assert ("a" in store, "x" in store, store.missing(["a", "x"])) == (True, False, ["x"])
    assert check_store(store.path) == []
    with pytest.raises(KeyError, match="no features of picture 'x'"):
        store["x"]
    with pytest.raises(ValueError, match="read-only"):
        store["a"].features[0] = 1


def test_ids_are_found_with_a_pictures_suffix(tmp_path: Path) -> None:
    store = build(tmp_path / "store", made("a"), made("b.png", seed=1))
    assert (store["a.jpg"].image_id, store["b.png"].image_id) == ("a", "b.png")
    assert "b" not in store


def test_boxes_are_normalised_by_the_picture(tmp_path: Path) -> None:
    one = made("a")
    scaled = build(tmp_path / "store", one)["a"].normalised_boxes()
    assert one.boxes is not None
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, one.boxes / [50, 40, 50, 40], rtol=1e-6)


def test_a_grid_has_the_boxes_of_its_cells(tmp_path: Path) -> None:
    grid = Regions("a", np.ones((6, 2), np.float32), grid=(2, 3))
    store = build(tmp_path / "store", grid, grid=(2, 3))
    assert (store.info.grid, store.info.boxes, store.info.stride) == ((2, 3), 6, 32)
    assert store["a"].normalised_boxes()[4].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 3, 1])
    assert grid_boxes(1, 1).tolist() == [[0, 0, 1, 1]]
    plain = build(tmp_path / "plain", Regions("a", np.ones((2, 2), np.float32)))
    with pytest.raises(ValueError, match="the features have no boxes"):
        plain["a"].normalised_boxes()


def test_float16_keeps_what_it_can(tmp_path: Path) -> None:
    store = build(tmp_path / "store", made("a"), dtype="float16")
    assert store["a"].features.dtype == np.float16
    np.testing.assert_allclose(store["a"].features, made("a").features, atol=1e-3)
    large = Regions("a", np.full((1, 2), 1e6, np.float32))
    with pytest.raises(ValueError, match=r"row 1 \(picture 'a'\): a feature is too large for float16: use float32"):
        build(tmp_path / "large", large, dtype="float16")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (made("a"), "the id is there already"),
        (made(""), "the id is empty"),
        (made("b", width=5), "5 numbers a region where the pictures before have 4"),
        (Regions("b", made("b").features), r"it has \(\) where the pictures before have"),
        (Regions("b", np.full((3, 4), np.nan, np.float32)), "a feature is not finite"),
        (Regions("b", np.ones((0, 4), np.float32)), "at least one region"),
        (Regions("b", np.ones((1, 4), np.float32), np.ones((2, 4), np.float32), (9, 9)), "boxes of shape"),
        (
            Regions("b", np.ones((1, 4), np.float32), np.array([[0, 0, 5, 12]], np.float32), (9, 9)),
            "outside the picture",
        ),
        (
            Regions("b", np.ones((1, 4), np.float32), np.array([[5, 0, 1, 9]], np.float32), (9, 9)),
            "ends before it begins",
        ),
        (Regions("b", np.ones((1, 4), np.float32), np.ones((1, 4), np.float32)), "a picture of 0 x 0 pixels"),
        (Regions("b", np.ones((4, 4), np.float32), grid=(2, 2)), r"a grid of \(2, 2\) in a store of None"),
        (Regions("b", np.ones((3, 4), np.float32), grid=(2, 2)), "3 rows of features for a grid of 2 x 2"),
        (Regions("b", np.ones((1, 4), np.float32), labels={"objects_id": np.ones(2)}), "objects_id is of shape"),
        (Regions("b", np.ones((1, 4), np.float32), labels={"weight": np.ones(1)}), "unknown label 'weight'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path, wrong: Regions, message: str) -> None:
    with pytest.raises(ValueError, match=rf"row 2 \(picture '.*'\): .*{message}"):
        build(tmp_path / "store", made("a"), wrong)
    assert list(tmp_path.iterdir()) == []


def test_other_refusals_of_building(tmp_path: Path) -> None:
    build(tmp_path / "store", made("a"))
    with pytest.raises(ValueError, match="it is there already"):
        build(tmp_path / "store", made("a"))
    with pytest.raises(ValueError, match="no features to store"):
        build(tmp_path / "empty")
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        build(tmp_path / "typed", made("a"), dtype="int8")
    with pytest.raises(ValueError, match="the store was not finished"), new_store(tmp_path / "open"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_a_killed_process_left_is_built_over(tmp_path: Path) -> None:
    left = tmp_path / ".store.building"
    left.mkdir()
    (left / "features.npy").write_bytes(b"half")
    (left / "other.npy").write_bytes(b"half")
    assert len(build(tmp_path / "store", made("a"))) == 1
    assert not (tmp_path / "store/other.npy").exists()


def test_two_processes_do_not_build_one_store(tmp_path: Path) -> None:
    building = tmp_path / ".store.building"
    building.mkdir()
    holder = os.open(building, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is building it"):
        build(tmp_path / "store", made("a"))
    os.close(holder)
    assert building.exists()


def test_names_with_the_same_hash_stay_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = build(tmp_path / "store", made("a"), made("b", seed=1), made("c", seed=2))
    # as if all three had the hash of "b"
    row = store.row_of("b")
    monkeypatch.setattr(store, "_hashes", np.full(3, store.array("hashes")[list(store.array("order")).index(row)]))
    monkeypatch.setattr("data.features.store.name_hash", lambda name: int(store._hashes[0]))
    assert [store.row_of(name) for name in ("a", "b", "c", "d")] == [0, 1, 2, None]


def test_pickling_passes_the_path_on(tmp_path: Path) -> None:
    store = build(tmp_path / "store", made("a"))
    content = pickle.dumps(store)
    assert len(content) < 500
    assert same(pickle.loads(content)["a"], made("a"))


def test_memory_stays_flat_in_forked_readers(tmp_path: Path) -> None:
    rows, width = 256, 2**16  # 64 MiB of features
    with new_store(tmp_path / "store", dtype="float32") as writer:
        for number in range(rows):
            writer.add(Regions(str(number), np.full((1, width), number, np.float32)), "")
        writer.finish("", [], None)
    store = FeatureStore(tmp_path / "store")

    def resident() -> int:  # KiB of mapped files
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0])

    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            before, right = resident(), True
            for number in range(rows):
                right = right and float(store[str(number)].features.sum()) == number * width
            os._exit(0 if right and resident() - before < 20_000 else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def test_check_finds_what_was_changed(tmp_path: Path) -> None:
    store = build(tmp_path / "store", made("a"), made("b", seed=1))
    file = tmp_path / "store/boxes.npy"
    boxes = np.load(file)
    boxes[4] = [0, 0, 99, 99]
    np.save(file, boxes)
    faults = check_store(store.path)
    assert "boxes.npy is not what was written" in faults[0]
    assert "row 1 (picture 'b'): box 1 (0.0, 0.0, 99.0, 99.0) is outside the picture of 50 x 40" in faults[1]


def test_stores_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no feature store there"):
        FeatureStore(tmp_path)
    build(tmp_path / "store", made("a"))
    features = tmp_path / "store/features.npy"
    content = features.read_bytes()
    features.write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"features.npy: .* bytes where the header says \(3, 4\)"):
        FeatureStore(tmp_path / "store")
    features.unlink()
    with pytest.raises(ValueError, match="cannot open the array"):
        FeatureStore(tmp_path / "store")
    features.write_bytes(content)
    manifest = tmp_path / "store/store.json"
    record = json.loads(manifest.read_text())
    for change, message in (({"rows": 7}, "does not fit the arrays"), ({"version": 9}, "of version 9")):
        manifest.write_text(json.dumps(record | change))
        with pytest.raises(ValueError, match=message):
            FeatureStore(tmp_path / "store")
    manifest.write_text("[]")
    with pytest.raises(ValueError, match="cannot read it"):
        FeatureStore(tmp_path / "store")


def test_an_array_of_any_length_keeps_its_header(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", "int32", (2,)) as writer:
        for number in range(1234):
            writer.append(np.full((1, 2), number))
    assert np.load(tmp_path / "a.npy").tolist() == [[number, number] for number in range(1234)]
    mapped = MappedArray(tmp_path / "a.npy")
    assert mapped.array[1233].tolist() == [1233, 1233]
    mapped.release()
    assert mapped.array[7].tolist() == [7, 7]
    with ArrayWriter(tmp_path / "b.npy", "float32"):
        pass
    assert MappedArray(tmp_path / "b.npy").array.shape == (0,)
