"""Files that others wrote: opened only where they are plain files, and JSON read within limits.

Every module reads JSON of files through `load_json` or `parse_json`, so that a file is judged alike wherever it is
named: what cannot be read is a ValueError or an OSError, never a RecursionError, and no key is overwritten silently.
"""

import errno
import gzip
import io
import json
import os
import stat
import zlib
from typing import Any, BinaryIO

PathLike = str | os.PathLike[str]
#: Lists and objects within each other. No file of any data set comes near; Python's recursion ends at some hundreds.
MAX_DEPTH = 100
#: How often larger a packed text may be when it is unpacked (JSON grows some tenfold), and what is small in any case.
_GROWTH, _SMALL = 200, 2**26


def open_file(path: PathLike) -> BinaryIO:
    """A plain file, open to be read in bytes.

    A pipe would be waited for and a device has no end. Raises OSError for what is missing, unreadable, or none.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a null byte, or half a character
        raise OSError(errno.EINVAL, f"no name of a file: {error}", os.fspath(path)) from None
    _check_regular(status, path)
    stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  the caller closes it
    try:
        _check_regular(os.fstat(stream.fileno()), path)  # it may have been replaced meanwhile
    except OSError:
        stream.close()
        raise
    return stream


def read_bytes(path: PathLike) -> bytes:
    """The content of a plain file. OSError as `open_file`."""
    with open_file(path) as stream:
        return stream.read()


def read_text(path: PathLike) -> str:
    """A plain file of UTF-8 text, with or without a mark at its beginning. OSError as `open_file`, ValueError for other
    text."""
    return read_bytes(path).decode("utf-8-sig")


def unpacked(content: bytes) -> bytes:
    """What gzip packed. ValueError for damaged data, and for what grows beyond all proportion when it is unpacked."""
    allowed = max(_SMALL, _GROWTH * len(content))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            text = stream.read(allowed + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from None
    if len(text) > allowed:
        raise ValueError(f"it is more than {allowed >> 20} MB when it is unpacked")
    return text


def load_json(path: PathLike) -> Any:
    """What a JSON file holds. OSError as `open_file`, ValueError as `parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError: a JSONDecodeError for what is no JSON; a plain one for a key that stands twice in an object, for
    what is nested more than `MAX_DEPTH` deep, and for numbers of thousands of digits.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if _is_deeper(content, MAX_DEPTH):
        raise ValueError(_TOO_DEEP)
    return content


_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return found


def _is_deeper(content: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep; without recursion."""
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _check_regular(status: os.stat_result, path: PathLike) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
