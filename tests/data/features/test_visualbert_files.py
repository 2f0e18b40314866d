"""VisualBERT's `.th` files and its one-picture arrays become feature stores."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from data.features import FeatureStore, import_features
from data.features.visualbert_files import ThFile, import_th

MARK = "code-ran"


class Evil:
    def __reduce__(self):
        return os.mkdir, (MARK,)


def rows(count: int, width: int, first: float = 0.0) -> np.ndarray:
    return np.arange(first, first + count * width, dtype=np.float32).reshape(count, width)


def save(path: Path, *names: str, zipped: bool = True) -> Path:
    content = {
        name: tuple(map(torch.from_numpy, (rows(3, 5, number), rows(3, 4), np.full(3, 0.5, np.float32))))
        for number, name in enumerate(names)
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_all_pictures_of_a_file(tmp_path, zipped):
    path = save(tmp_path / "a.th", "dev-1-img0.png", "COCO_val2014_000000000042.jpg.npz", zipped=zipped)
    file = ThFile(path)

    (_, first), (where, second) = file

    assert [first.image_id, second.image_id] == ["dev-1-img0", "COCO_val2014_000000000042"]
    assert where.endswith("a.th: COCO_val2014_000000000042.jpg.npz")
    assert second.features.tolist() == rows(3, 5, 1).tolist()
    assert second.boxes is None
    assert second.labels["objects_conf"].tolist() == [0.5, 0.5, 0.5]
    assert file.origin["bytes"] == path.stat().st_size


def test_boxes_need_the_pictures_size(tmp_path):
    path = save(tmp_path / "a.th", "a.png")

    ((_, regions),) = ThFile(path, {"a": (20, 40)})

    assert regions.boxes is not None
    assert regions.boxes.tolist() == rows(3, 4).tolist()
    assert regions.normalised_boxes()[1].tolist() == pytest.approx([4 / 40, 5 / 20, 6 / 40, 7 / 20])
    with pytest.raises(ValueError, match=r"a\.th: a\.png: the picture's size is not known"):
        list(ThFile(path, {"b": (20, 40)}))


def test_files_become_one_store(tmp_path):
    one, other = save(tmp_path / "a.th", "a.png", "b.png"), save(tmp_path / "b.th", "c.png")

    info = import_th([one, other], tmp_path / "store", detector="fc6", dtype="float32")
    store = FeatureStore(tmp_path / "store")

    assert (info.images, info.width, info.boxes) == (3, 5, 3)
    assert list(store) == ["a", "b", "c"]
    assert store["b"].features.tolist() == rows(3, 5, 1).tolist()
    assert [Path(record["file"]).name for record in info.origin] == ["a.th", "b.th"]


def test_one_array_a_picture_becomes_a_store(tmp_path):
    folder = tmp_path / "fc6"
    folder.mkdir()
    np.save(folder / "COCO_train2014_000000000009.npy", rows(4, 5))
    np.save(folder / "dev-850-0-img0.png.npy", rows(3, 5))

    import_features([folder], tmp_path / "store")

    assert list(FeatureStore(tmp_path / "store")) == ["COCO_train2014_000000000009", "dev-850-0-img0"]


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": (torch.ones(1, 2), torch.ones(1, 4), Evil())}, tmp_path / "a.th")
    array = np.empty(1, object)
    array[0] = Evil()
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", array, allow_pickle=True)

    with pytest.raises(ValueError, match=r"a\.th is not read.*could run code"):
        import_th([tmp_path / "a.th"], tmp_path / "store")
    with pytest.raises(ValueError, match=r"a\.npy: cannot read the array"):
        import_features([tmp_path / "npy"], tmp_path / "store")

    assert not Path(MARK).exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "no pictures"),
        ([1], "no pictures"),
        ({"a": torch.ones(2)}, "a: it is not .features, boxes, confidences."),
        ({"a": (torch.ones(2, 3).long(), torch.ones(2, 4), torch.ones(2))}, "a: the features are int64"),
        ({"a": (torch.ones(2), torch.ones(2, 4), torch.ones(2))}, "features of shape"),
        ({"a": (torch.ones(2, 3), torch.ones(2, 4), torch.ones(3))}, "objects_conf is of shape"),
        (
            {name: (torch.ones(2, width), torch.ones(2, 4), torch.ones(2)) for name, width in (("a", 3), ("b", 4))},
            "4 numbers a region where the pictures before have 3",
        ),
    ],
)
def test_other_content_is_named(tmp_path, content, reason):
    torch.save(content, tmp_path / "a.th")

    with pytest.raises(ValueError, match=rf"a\.th.*{reason}"):
        import_th([tmp_path / "a.th"], tmp_path / "store")
