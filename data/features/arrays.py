"""Arrays in `.npy` files: written row by row without knowing how many there will be, and mapped into memory."""

import mmap
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

_HASHED = 2**24  # bytes at a time
_DIGEST = 16  # bytes


class ArrayWriter:
    """Writes an array of any number of rows; `close` puts their number into the header."""

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...] = ()) -> None:
        """`row` is the shape of one row, () for plain numbers."""
        self.path = path
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self._row = row
        self._digest = blake2b(digest_size=_DIGEST)
        self._stream: BinaryIO = path.open("wb")
        self._start = self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Adds `rows` [n, *row], converted to the array's type."""
        content = np.ascontiguousarray(rows, dtype=self.dtype)
        assert content.shape[1:] == self._row, (content.shape, self._row)
        data = content.reshape(-1).view(np.uint8).data
        self._stream.write(data)
        self._digest.update(data)
        self.rows += len(content)

    @property
    def digest(self) -> str:
        """See `digest_of`."""
        return self._digest.hexdigest()

    def close(self) -> None:
        if not self._stream.closed:
            self._stream.seek(0)
            # numpy leaves room in the header for the first axis to grow
            end = self._write_header()
            assert end == self._start, "the header has outgrown its place"
            self._stream.close()

    def _write_header(self) -> int:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self._row)}
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self._stream.tell()

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MappedArray:
    """A `.npy` file mapped into memory, read-only: opened in no time, and shared by all processes that read it."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is not there, is no such array, or is shorter than its header says."""
        try:
            with open(path, "rb") as stream:
                shape, dtype, start = _header(stream)
                # Read-only and shared: pages are those of the page cache, the same in every process.
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot open the array ({error}): build the store anew") from None
        count = int(np.prod(shape))
        if len(self._map) != start + count * dtype.itemsize:
            raise ValueError(f"{path}: {len(self._map)} bytes where the header says {shape}: build the store anew")
        self.array = np.frombuffer(self._map, dtype, count, start).reshape(shape) if count else np.zeros(shape, dtype)

    def release(self) -> None:
        """Gives the pages read so far back: this process' memory shrinks, the data stays in the page cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def digest_of(array: np.ndarray) -> str:
    """BLAKE2b of an array's content without the file's header, 16 bytes in hexadecimal."""
    digest = blake2b(digest_size=_DIGEST)
    content = array.reshape(-1).view(np.uint8)
    for start in range(0, len(content), _HASHED):
        digest.update(content[start : start + _HASHED].data)
    return digest.hexdigest()


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype, int]:
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("another version of the npy format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject:
        raise ValueError("not a plain array in row order")
    return shape, dtype, stream.tell()
