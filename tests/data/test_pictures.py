"""Pictures by id, from folders, zip files and arrays."""

import os
import pickle
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import decode
from data.pictures import Pictures, open_at, without_suffix


def draw(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for shade in range(8):
        draw(tmp_path / f"all/{shade}.png", shade)
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as target:
        for shade in range(8):
            how = zipfile.ZIP_DEFLATED if shade % 2 else zipfile.ZIP_STORED
            target.write(tmp_path / f"all/{shade}.png", f"all/{shade}.png", how)
        target.writestr("all/notes.txt", "no picture")
    return path


def _shade(pictures: Pictures, image_id: str) -> int:
    pixel = pictures.open(image_id).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def test_a_folder_with_and_without_suffixes(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "deep/b.png", 2)
    pictures = Pictures(tmp_path)
    assert pictures.ids() == ["a", "deep/b"]
    assert [_shade(pictures, name) for name in ("a", "a.png", "deep/b")] == [1, 1, 2]
    assert ("a" in pictures, "c" in pictures, 3 in pictures) == (True, False, False)


def test_members_of_a_zip_without_their_common_folder(archive: Path) -> None:
    pictures = Pictures(archive)
    assert pictures.ids() == [str(shade) for shade in range(8)]
    assert [_shade(pictures, str(shade)) for shade in range(8)] == list(range(8))


def test_a_zip_serves_forked_workers_and_threads_at_once(archive: Path) -> None:
    pictures = Pictures(archive)
    names = [str(shade) for shade in range(8)] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda name: _shade(pictures, name), names)) == [int(name) for name in names]
    context = get_context("fork")
    with ProcessPoolExecutor(2, context) as workers:
        found = list(workers.map(_shade, [pictures] * len(names), names, chunksize=20))
    assert found == [int(name) for name in names]


def test_forked_children_share_the_open_file(archive: Path) -> None:
    pictures = Pictures(archive)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            right = all(_shade(pictures, str(shade)) == shade for shade in list(range(8)) * 10)
            os._exit(0 if right else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_pickling_passes_the_paths_on(archive: Path) -> None:
    content = pickle.dumps(Pictures(archive))
    assert len(content) < 500
    assert _shade(pickle.loads(content), "5") == 5


def test_earlier_places_come_first(tmp_path: Path, archive: Path) -> None:
    draw(tmp_path / "mine/3.png", 200)
    pictures = Pictures([tmp_path / "mine", archive])
    assert (_shade(pictures, "3"), _shade(pictures, "4")) == (200, 4)


def test_arrays_are_turned_from_bgr(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 3, 3), np.uint8)
    images[1, ..., 2] = 255
    np.savez(tmp_path / "val.npz", image=images)
    pictures = Pictures(tmp_path / "val.npz")
    assert pictures.ids() == ["val-0", "val-1"]
    assert pictures.open("val-1").getpixel((0, 0)) == (255, 0, 0)
    assert "val-2" not in pictures


def test_a_picture_is_opened_where_it_lies(tmp_path: Path, archive: Path) -> None:
    np.savez(tmp_path / "val.npz", image=np.full((2, 3, 3, 3), 7, np.uint8))
    draw(tmp_path / "folder" / "sub" / "f.png", 99)
    pictures = Pictures([tmp_path / "folder", archive, tmp_path / "val.npz"])
    lies = {"sub/f": "folder/sub/f.png", "5": "pictures.zip/5.png", "val-1": "val.npz/val-1"}
    for image_id, path in lies.items():
        found = pictures.file_of(image_id)
        assert found == str(tmp_path / path)
        with open_at(found) as stream:
            assert decode(stream).getpixel((0, 0)) == pictures.open(image_id).getpixel((0, 0))
    assert pictures.file_of("none") is None
    with pytest.raises(ValueError, match="no picture '9.png'"):
        open_at(archive / "9.png")
    with pytest.raises(FileNotFoundError):
        open_at(tmp_path / "gone.png")


def test_a_zip_file_that_was_packed_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    for shade in (10, 200):
        draw(tmp_path / "a.png", shade)
        with zipfile.ZipFile(path, "w") as target:
            target.write(tmp_path / "a.png", "a.png")
        os.utime(path, ns=(shade, shade))
        with open_at(path / "a.png") as stream:
            assert decode(stream).getpixel((0, 0)) == (shade, 0, 0)


def test_refusals(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(ValueError, match="no such folder or file"):
        Pictures(tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("no")
    with pytest.raises(ValueError, match="not a folder, zip file or npz file"):
        Pictures(tmp_path / "text.zip")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="no array 'image'"):
        Pictures(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="no picture '9'"):
        Pictures(archive).read("9")
    (tmp_path / "all/7.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="cannot decode picture '7'"):
        Pictures(tmp_path / "all").open("7")
    draw(tmp_path / "all/1.jpg", 1)
    with pytest.raises(ValueError, match="the same id"):
        Pictures(tmp_path / "all").ids()


def test_a_damaged_member_is_named(archive: Path) -> None:
    pictures = Pictures(archive)
    with zipfile.ZipFile(archive) as content:
        offset = content.getinfo("all/2.png").header_offset
    with open(archive, "r+b") as stream:
        stream.seek(offset + 60)
        stream.write(b"\0\0\0\0")
    with pytest.raises(ValueError, match=r"2.png is damaged"):
        pictures.read("2")


def test_only_pictures_lose_their_suffix() -> None:
    assert [without_suffix(name) for name in ("a.jpg", "a.PNG", "v1.2", "a")] == ["a", "a", "v1.2", "a"]
