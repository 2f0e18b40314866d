"""Files: written whole or not at all, read with errors that name them, locked where several processes want to write."""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from data.reading import load_json, open_file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path` (made if need be): of several processes, one at a time gets in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def claimed(path: Path, remedy: str) -> TextIO:
    """Takes the lock on the file `path` for as long as the returned file is open, and writes down who holds it.

    Raises:
        ValueError: another process holds it; the message names its pid and host, and `remedy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115  the caller closes it
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().strip() or "another process"
        stream.close()
        raise ValueError(f"{path.parent} is in use by {holder}: {remedy}") from None
    stream.truncate(0)
    stream.write(f"pid {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    return stream


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; at the end its content is put on disk and it is renamed to
    `path`; after an error it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)  # or a crash could leave the name without the content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(directory: str | Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `directory` when the block ends without an error.

    The folder stands beside `directory`, so that the exchange is a renaming. Everything in it has reached the disk
    before. After an error, or an interruption, `directory` is what it was.

    Raises:
        OSError: something could not be written.
    """
    target = Path(directory).resolve()
    partial, former = (target.with_name(f".{target.name}.{state}") for state in ("partial", "former"))
    if former.exists() and not target.exists():
        former.rename(target)  # the process was killed between the two renamings below
    for left_over in (partial, former):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        _exchange(partial, target, former)
    except OSError as error:
        raise OSError(f"{error} [{target} was not written; what was there before is untouched]") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)


def _exchange(partial: Path, target: Path, former: Path) -> None:
    """Put `partial` in the place of `target`, which becomes `former`."""
    try:
        if target.exists():
            target.rename(former)
        partial.rename(target)
    except BaseException:
        if former.exists() and not target.exists():
            former.rename(target)
        raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, on disk when this returns; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half a character, which JSON may carry, is written as JSON writes it.
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)


def write_json(path: Path, content: Any) -> None:
    """`write_text` of `content` as JSON."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. ValueError, naming it, for what is none."""
    found = _read(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object: remove it, or make it anew")
    return found


def read_list(path: Path) -> list[Any]:
    """A JSON list from a file. ValueError, naming it, for what is none."""
    found = _read(path)
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no JSON list: remove it, or make it anew")
    return found


def _read(path: Path) -> Any:
    try:
        return load_json(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it, or make it anew") from error


def digest_of(path: Path, without: Collection[str] = ()) -> str:
    """SHA-256 of a file, or of a folder's files with their names; those called as in `without` do not count.

    Raises OSError for what cannot be read.
    """
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    total = hashlib.sha256()
    for file in files:
        if file.name not in without:
            name = file.relative_to(path).as_posix() if file != path else ""
            total.update(f"{name}\0{_digest_of_file(file)}\n".encode())
    return total.hexdigest()


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
