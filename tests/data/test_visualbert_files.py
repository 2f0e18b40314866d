"""Files of the original VisualBERT, read an image at a time."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from data.features.visualbert_files import npy_features, read_imdb, th_features

MARK = "code-ran"


class Evil:
    def __reduce__(self):
        return os.mkdir, (MARK,)


def rows(count: int, width: int, first: float = 0.0) -> np.ndarray:
    return np.arange(first, first + count * width, dtype=np.float32).reshape(count, width)


def objects(*values) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def question(number: int, **changes) -> dict:
    return {"question_id": number, "image_name": f"COCO_{number}", "question_str": "Why?"} | changes


def test_a_folder_with_a_file_an_image(tmp_path):
    np.save(tmp_path / "COCO_val2014_000000000042.npy", rows(2, 4))
    np.save(tmp_path / "COCO_train2014_000000000009.npy", rows(3, 4, 10))
    np.save(tmp_path / "dev-850-0-img0.png.npy", rows(1, 4, 20))

    images = list(npy_features(tmp_path, width=4))

    ids = ["COCO_train2014_000000000009", "COCO_val2014_000000000042", "dev-850-0-img0.png"]
    assert [image.image_id for image in images] == ids
    assert images[0].features.tolist() == rows(3, 4, 10).tolist()
    assert images[0].boxes is None
    assert images[0].record == {"file": "COCO_train2014_000000000009.npy"}


def test_a_file_with_boxes_in_a_dictionary(tmp_path):
    boxes = rows(2, 4, 50)
    np.save(tmp_path / "a.npy", objects({"image_feat": rows(2, 3), "image_bboxes": boxes}), allow_pickle=True)

    (image,) = npy_features(tmp_path)

    assert image.features.tolist() == rows(2, 3).tolist()
    assert image.boxes is not None
    assert image.boxes.tolist() == boxes.tolist()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_all_images(tmp_path, zipped):
    content = {
        name: tuple(map(torch.from_numpy, (rows(3, 5, start), rows(3, 4), np.ones(3, np.float32))))
        for start, name in enumerate(["dev-1-img0.png", "dev-1-img1.png.npz"])
    }
    torch.save(content, tmp_path / "features_dev_150.th", _use_new_zipfile_serialization=zipped)

    images = list(th_features(tmp_path / "features_dev_150.th", width=5))

    assert [image.image_id for image in images] == ["dev-1-img0.png", "dev-1-img1.png"]
    assert images[1].features.tolist() == rows(3, 5, 1).tolist()
    assert images[0].boxes is not None
    assert images[0].boxes.tolist() == rows(3, 4).tolist()
    assert images[0].record["confidences"].tolist() == [1, 1, 1]


def test_the_questions_of_an_imdb(tmp_path):
    np.save(tmp_path / "imdb.npy", objects({"version": 1}, question(1), question(2)), allow_pickle=True)

    header, questions = read_imdb(tmp_path / "imdb.npy")

    assert header == {"version": 1}
    assert [row["question_id"] for row in questions] == [1, 2]


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "imdb.npy", objects({}, question(1, extra=Evil())), allow_pickle=True)
    torch.save({"a": (torch.ones(1, 2), torch.ones(1, 4), Evil())}, tmp_path / "a.th")

    for read in (lambda: read_imdb(tmp_path / "imdb.npy"), lambda: list(npy_features(tmp_path))):
        with pytest.raises(ValueError, match="which could run code"):
            read()
    with pytest.raises(ValueError, match="which could run code"):
        list(th_features(tmp_path / "a.th"))

    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (rows(2, 3), "a region has 3 numbers, but 4 are expected"),
        (np.ones(4, np.float32), "not numbers"),
        (np.ones((2, 4), np.int64), "not numbers"),
        (np.ones((0, 4), np.float32), "not numbers"),
        (objects({"features": 1}), "neither features nor a dictionary"),
        (objects({"image_feat": rows(2, 4), "image_bboxes": rows(3, 4)}), "boxes are .3, 4., but there are 2 regions"),
    ],
)
def test_other_features_are_named(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)

    with pytest.raises(ValueError, match=rf"a\.npy.*{reason}"):
        list(npy_features(tmp_path, width=4))


def test_other_files_are_named(tmp_path):
    np.save(tmp_path / "numbers.npy", rows(2, 2))
    np.save(tmp_path / "short.npy", objects({}, {"question_id": 1}), allow_pickle=True)
    torch.save({"a": torch.ones(2)}, tmp_path / "one.th")
    torch.save([], tmp_path / "none.th")

    with pytest.raises(ValueError, match="is no imdb file"):
        read_imdb(tmp_path / "numbers.npy")
    with pytest.raises(ValueError, match="record 1 has no image_name, question_str"):
        read_imdb(tmp_path / "short.npy")
    with pytest.raises(ValueError, match="a is not"):
        list(th_features(tmp_path / "one.th"))
    with pytest.raises(ValueError, match="holds no images"):
        list(th_features(tmp_path / "none.th"))
    with pytest.raises(ValueError, match=r"has no \.npy files"):
        list(npy_features(tmp_path / "nothing"))
