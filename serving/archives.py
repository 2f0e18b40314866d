"""Exported folders as .tar.gz archives, and back. An archive is a stranger's: nothing in it is trusted.

Members are copied by their content alone: what a header says of owners, modes and times is not asked.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from data.reading import open_file

#: Bytes that an archive may hold, and how often larger than itself. Weights hardly shrink; what is small may.
MOST_BYTES, GROWTH, SMALL = 2**36, 100, 2**26
MOST_MEMBERS = 1000
_CHUNK = 2**20
_HEADER = 2**20  # bytes of a member's header, with its long name and what else it says
#: What reading a header raises when its numbers mean nothing.
_MEANINGLESS = (ValueError, LookupError, ArithmeticError, TypeError, RecursionError)
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
_NAME = re.compile(r"[\w.+][\w .+-]{0,199}")


def pack(folder: Path, archive: Path, name: str) -> None:
    """The files of a folder as an archive in which their folder is called `name`."""
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=f"{name}/{path.name}", filter=_anonymous)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into `folder`; the one folder in the archive.

    Raises:
        ValueError: the archive is damaged, larger than any export, or has a member that has no business there.
        OSError: it cannot be read, or the disk is full.
    """
    with open_file(archive) as packed:
        allowed = min(MOST_BYTES, max(SMALL, GROWTH * archive.stat().st_size))
        try:
            with _opened(_Bounded(packed, allowed)) as tar:
                roots = {_extract(tar, member, folder, archive) for member in _members(tar, archive)}
        except (*_DAMAGED, _TooLarge) as error:
            raise ValueError(f"{archive} cannot be unpacked ({error}): get it again") from error
    if not roots:
        raise ValueError(f"{archive}: refused: it is empty")
    return folder / roots.pop()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """The members, each checked. ValueError for the first that has no business in an export."""
    roots: set[str] = set()
    names: set[str] = set()
    while (member := _next(tar)) is not None:
        shown = repr(member.name[:100])
        parts = PurePosixPath(member.name).parts
        if member.issparse():
            raise ValueError(f"{archive}: refused: {shown} is sparse, a file with holes: pack it anew")
        if not member.isreg() or len(parts) != 2 or member.name != "/".join(parts):
            raise ValueError(f"{archive}: refused: {shown} is not a plain file in the archive's one folder")
        if not all(_NAME.fullmatch(part) and part.strip(".") for part in parts):
            raise ValueError(f"{archive}: refused: {shown} is no name that an export gives: letters, digits, . + - _")
        roots.add(parts[0])
        if len(roots) > 1:
            raise ValueError(f"{archive}: refused: it has more than one folder ({', '.join(sorted(roots))})")
        if parts[1].casefold() in names:  # also where a disk tells no case apart
            raise ValueError(f"{archive}: refused: it has {shown} twice")
        names.add(parts[1].casefold())
        if len(names) > MOST_MEMBERS:
            raise ValueError(f"{archive}: refused: it has more than {MOST_MEMBERS} files")
        yield member


def _opened(stream: "_Bounded") -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")
    except _MEANINGLESS as error:
        raise tarfile.ReadError(f"a header is damaged: {error}") from error


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except _MEANINGLESS as error:
        raise tarfile.ReadError(f"a header is damaged: {error}") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> str:
    """Copy a member's content; the folder that it is in."""
    root, name = PurePosixPath(member.name).parts
    source = tar.extractfile(member)
    assert source is not None, "a plain file has content"
    (folder / root).mkdir(exist_ok=True)
    left = member.size
    with open(folder / root / name, "xb") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            left -= len(chunk)
    if left:
        raise ValueError(f"{archive} cannot be unpacked ({name} is cut off): get it again")
    return root


class _TooLarge(Exception):
    """More than an archive may hold."""


class _Bounded(io.RawIOBase):
    """What a gzip file holds, for reading, up to so many bytes in all and so many at once."""

    def __init__(self, packed: IO[bytes], allowed: int) -> None:
        self._stream = gzip.GzipFile(fileobj=packed, mode="rb")
        self._allowed = allowed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < 0:
            raise _TooLarge("it is read from the beginning to the end")
        self._check(offset)
        return self._stream.seek(offset)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= max(_CHUNK, _HEADER):
            raise _TooLarge(f"a header of more than {_HEADER >> 20} MB")
        content = self._stream.read(size)
        self._check(self._stream.tell())
        return content

    def _check(self, position: int) -> None:
        if position > self._allowed:
            raise _TooLarge(f"it holds more than {self._allowed >> 20} MB")
