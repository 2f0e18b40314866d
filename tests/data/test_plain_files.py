"""Pickled files that are read without running what they ask for."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.plain_files import load_torch, read_npy

MARK = "code-ran"


class Evil:
    def __reduce__(self):
        return os.mkdir, (MARK,)


def objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def with_pickle(path: Path, content: bytes) -> Path:
    """An array of two objects whose pickle is `content`."""
    save(path, objects(1, 2))
    header = path.read_bytes()[:128]
    path.write_bytes(header + content)
    return path


def test_plain_values_come_back(tmp_path):
    record = {"id": 7, "words": ["a", "b"], "pair": (1.5, None), "flag": True, "raw": b"\x00\xff", "set": {3}}

    array = read_npy(save(tmp_path / "a.npy", objects(record, "text")))

    assert array.tolist() == [record, "text"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_and_numpy_numbers_inside_come_back(tmp_path, protocol):
    boxes = np.arange(6, dtype=">f4").reshape(2, 3)
    value = {"boxes": boxes, "turned": np.asfortranarray(np.arange(6).reshape(2, 3)), "id": np.int64(9)}
    value |= {"names": np.array(["x", "yz"]), "inner": objects(np.ones(2, np.float32), "t")}
    path = with_pickle(tmp_path / "a.npy", pickle.dumps(objects(value, 0), protocol=protocol))

    found = read_npy(path)[0]

    assert found["boxes"].tolist() == boxes.tolist()
    assert found["turned"].tolist() == value["turned"].tolist()
    assert found["id"] == 9
    assert found["names"].tolist() == ["x", "yz"]
    assert found["inner"][0].tolist() == [1, 1]


def test_numbers_are_read_or_mapped(tmp_path):
    path = save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))

    assert read_npy(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(read_npy(path, in_memory=False), np.memmap)


def test_code_in_an_array_of_objects_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.npy", objects(1, Evil()))

    with pytest.raises(ValueError, match=r"a\.npy is not read: it asks for posix\.mkdir, which could run code"):
        read_npy(path)

    assert not Path(MARK).exists()


def test_a_kind_of_numbers_with_fields_is_refused(tmp_path):
    array = objects(np.zeros(2, [("a", "O"), ("b", "i4")]), 1)

    with pytest.raises(ValueError, match="only numbers, texts and objects are read"):
        read_npy(save(tmp_path / "a.npy", array))


def test_an_array_that_its_values_do_not_fill_is_refused(tmp_path):
    content = pickle.dumps(np.arange(4, dtype=np.int64), protocol=2)
    path = with_pickle(tmp_path / "a.npy", content.replace(b"K\x04\x85", b"K\x09\x85"))

    with pytest.raises(ValueError, match="values do not fill it"):
        read_npy(path)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"a\.npy is damaged, or no \.npy file"):
        read_npy(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="cannot read"):
        load_torch(tmp_path / "a.th")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_new_and_old_files_come_back(tmp_path, zipped):
    content = {"a": torch.arange(3), "inner": {"b": 1.5}}
    torch.save(content, tmp_path / "a.th", _use_new_zipfile_serialization=zipped)

    found = load_torch(tmp_path / "a.th")

    assert found["a"].tolist() == [0, 1, 2]
    assert found["inner"] == {"b": 1.5}


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_of_tensors_is_refused(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1), "b": Evil()}, tmp_path / "a.th", _use_new_zipfile_serialization=zipped)

    with pytest.raises(ValueError, match=r"a\.th is not read.*mkdir"):
        load_torch(tmp_path / "a.th")

    assert not Path(MARK).exists()


def test_a_damaged_file_of_tensors_is_named(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "a.th")
    whole = (tmp_path / "a.th").read_bytes()
    (tmp_path / "a.th").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ValueError, match=r"a\.th is"):
        load_torch(tmp_path / "a.th")
