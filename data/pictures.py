"""Pictures by id, in folders, zip files or arrays: read by name, nothing is unpacked.

An id is a file's name, or its path below the folder, with or without its suffix. One object serves any number of
threads and forked workers: members of a zip are read at their place in the file, with no position to share. Pickling
passes the paths on.
"""

import functools
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from data.images import decode
from data.plain_files import read_npz
from data.reading import open_file, read_bytes

PathLike = str | os.PathLike[str]
SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".gif", ".bmp")
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, length of its name, length of its extra field


class _Place(Protocol):
    """One folder, zip file or array file."""

    def names(self) -> Iterator[str]: ...

    def exists(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes | None: ...


class Pictures:
    """The pictures of several places, earlier ones first: `pictures.read(image_id)`, `image_id in pictures`."""

    def __init__(self, places: PathLike | Sequence[PathLike]) -> None:
        """`places` are folders, `.zip` files or `.npz` files with an array `image` uint8 [N, H, W, 3] in BGR order,
        whose pictures are `STEM-0`, `STEM-1` and so on.

        Raises ValueError for a place that is not there or is neither.
        """
        several = isinstance(places, Sequence) and not isinstance(places, str)
        self.places = tuple(str(place) for place in (places if several else (places,)))  # type: ignore[union-attr]
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {"places": self.places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.places = state["places"]
        self._open()

    def _open(self) -> None:
        self._places = [_place(place) for place in self.places]
        self._suffix = ""  # the one that fitted last: tried first

    def ids(self) -> list[str]:
        """Every picture's id, without suffix, sorted. Raises ValueError for two that differ in the suffix only."""
        found: dict[str, str] = {}
        for place, path in zip(self._places, self.places, strict=True):
            for name in place.names():
                key = without_suffix(name)
                if found.setdefault(key, f"{path}: {name}") != f"{path}: {name}":
                    raise ValueError(f"{path}: {name}: {found[key]} has the same id: rename one of them")
        return sorted(found)

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and any(
            place.exists(name) for place in self._places for name in self._candidates(image_id)
        )

    def read(self, image_id: str) -> bytes:
        """The bytes of the file. Raises ValueError if no place has the picture, or a zip file is damaged there."""
        for name in self._candidates(image_id):
            for place in self._places:
                content = place.read(name)
                if content is not None:
                    self._suffix = name[len(image_id) :]
                    return content
        raise ValueError(f"{', '.join(self.places)}: no picture {image_id!r}: check the folder and the ids")

    def open(self, image_id: str) -> Image.Image:
        """The picture in RGB. Raises ValueError if it is not there or cannot be decoded."""
        content = self.read(image_id)
        try:
            return decode(io.BytesIO(content))
        except ValueError as error:
            raise ValueError(
                f"{', '.join(self.places)}: cannot decode picture {image_id!r} ({error}): replace it"
            ) from None

    def file_of(self, image_id: str) -> str | None:
        """Where a picture lies, as `open_at` takes it: `FOLDER/NAME`, `X.zip/NAME`; None where it is not there."""
        for name in self._candidates(image_id):
            for place, path in zip(self._places, self.places, strict=True):
                if place.exists(name):
                    return os.path.join(path, name)
        return None

    def _candidates(self, image_id: str) -> Iterator[str]:
        likely = self._suffix  # another thread may change it meanwhile
        if likely:
            yield image_id + likely
        yield image_id
        for suffix in SUFFIXES:
            if suffix != likely:
                yield image_id + suffix


def open_at(path: PathLike) -> BinaryIO:
    """The file at a path, or what a zip or array file has there: `X.zip/NAME`.

    Raises OSError where no file is there or it cannot be read, ValueError for what the zip or array file does not have.
    """
    try:
        return open_file(path)
    except NotADirectoryError:
        place = next((parent for parent in Path(path).parents if parent.is_file()), None)
        if place is None:
            raise
    return io.BytesIO(_opened(str(place), os.stat(place).st_mtime_ns).read(Path(path).relative_to(place).as_posix()))


@functools.lru_cache(maxsize=4)
def _opened(place: str, changed: int) -> Pictures:
    """A place whose directory is read once, however many pictures are wanted; `changed`: when the file was."""
    return Pictures(place)


def without_suffix(name: str) -> str:
    """`name` without a picture's suffix."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _place(path: str) -> _Place:
    if os.path.isdir(path):
        return _Folder(path)
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such folder or file of pictures: check the path")
    if path.endswith(".npz"):
        return _Arrays(path)
    if zipfile.is_zipfile(path):
        return _Zip(path)
    raise ValueError(f"{path}: not a folder, zip file or npz file: give one of these")


class _Folder:
    def __init__(self, path: str) -> None:
        self._path = path

    def names(self) -> Iterator[str]:
        for path in Path(self._path).rglob("*"):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.relative_to(self._path).as_posix()

    def exists(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self._path, name))

    def read(self, name: str) -> bytes | None:
        try:
            return read_bytes(os.path.join(self._path, name))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(f"{self._path}: cannot read picture {name!r} ({error.strerror}): check it") from None


class _Zip:
    """The members' places are read once, their content at need."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
        except Exception as error:  # of whatever a damaged directory means
            raise ValueError(f"{path}: the zip file is damaged ({error}): make it anew") from error
        pictures = [member for member in members if PurePosixPath(member.filename).suffix.lower() in SUFFIXES]
        top = os.path.commonpath([os.path.dirname(member.filename) for member in pictures]) if pictures else ""
        cut = len(top) + 1 if top else 0
        self._rows: dict[str, int] = {}
        for row, member in enumerate(pictures):
            if self._rows.setdefault(member.filename[cut:], row) != row:
                raise ValueError(f"{path}: it has {member.filename!r} twice: pack it anew")
        self._table = np.array(
            [
                (member.header_offset, member.compress_size, member.CRC, member.compress_type, member.flag_bits)
                for member in pictures
            ],
            dtype=np.int64,
        ).reshape(-1, 5)
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def names(self) -> Iterator[str]:
        yield from self._rows

    def exists(self, name: str) -> bool:
        return name in self._rows

    def read(self, name: str) -> bytes | None:
        row = self._rows.get(name)
        if row is None:
            return None
        offset, size, checksum, method, flags = (int(value) for value in self._table[row])
        if flags & 1 or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{self._path}: {name} is encrypted or packed in another way: pack it with zip -0")
        try:
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(self._bytes(_LOCAL_HEADER.size, offset))
            packed = self._bytes(size, offset + _LOCAL_HEADER.size + name_length + extra_length)
            content = packed if method == zipfile.ZIP_STORED else zlib.decompress(packed, -zlib.MAX_WBITS)
        except (struct.error, zlib.error, OSError, OverflowError):
            signature, content = b"", b""
        if signature != b"PK\3\4" or zlib.crc32(content) != checksum:
            raise ValueError(f"{self._path}: {name} is damaged: make the zip file anew")
        return content

    def _bytes(self, size: int, offset: int) -> bytes:
        return os.pread(self._file, size, offset)


class _Arrays:
    def __init__(self, path: str) -> None:
        content = read_npz(Path(path))
        if "image" not in content:
            raise ValueError(f"{path}: it has no array 'image': give one of uint8 [N, H, W, 3]")
        self._images = content["image"]
        if self._images.dtype != np.uint8 or self._images.ndim != 4 or self._images.shape[3] != 3:
            raise ValueError(
                f"{path}: array 'image' is {self._images.dtype} {self._images.shape}: give uint8 [N, H, W, 3]"
            )
        self._prefix = f"{Path(path).stem}-"

    def names(self) -> Iterator[str]:
        return (f"{self._prefix}{number}" for number in range(len(self._images)))

    def exists(self, name: str) -> bool:
        return self._number(name) is not None

    def read(self, name: str) -> bytes | None:
        number = self._number(name)
        if number is None:
            return None
        stream = io.BytesIO()
        Image.fromarray(self._images[number][..., ::-1].copy()).save(stream, "bmp")
        return stream.getvalue()

    def _number(self, name: str) -> int | None:
        rest = name.removeprefix(self._prefix)
        if rest == name or not rest.isdecimal() or int(rest) >= len(self._images):
            return None
        return int(rest)
