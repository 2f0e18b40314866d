"""Broken files for every reader: what fails otherwise than by one error that names the file; prints JSON.

For each reader some sound files are changed: bytes flipped, cut, doubled, moved; numbers and names made absurd; in
JSON any value replaced, doubled or nested. A reader may read what comes out, or raise a ValueError or OSError of one
line that names the file. Anything else is a failure, and so is a case that takes more than ten seconds or gigabytes.

    python -m benchmarks.fuzz [--cases 10000] [--reader NAME] [--seed 0] [--keep FOLDER]
"""

import argparse
import copy
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10  # of one case
GIGABYTES = 6  # of address space beyond what the libraries take
_SAME = 60  # characters of two failures that are one
_INTERESTING = (
    *(b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"-1", b"0", b"1e999", b"NaN", b"9" * 30),
    *(b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\r\n", b"\t", b"\\ud800", b"../..", b"\x1b[2J", b"\xef\xbb\xbf"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, float("inf"), float("nan"), 2**63, 10**40, "", " ", "\0", "\ud800"),
    *("a" * 3000, "../../etc/passwd", "nan", "1", [], {}, [[]], [None], {"": None}, "\x1b[2J", "\u202e", "x\ny"),
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """`read(path)` of a file called `name`, of which `seeds` are sound ones; `slow`: it starts a process each time."""

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    slow: bool = False


@dataclass(frozen=True)
class Failure:
    """What happened, the first line of it, and the file that made it happen."""

    reader: str
    what: str
    content: bytes


class _Hang(BaseException):
    """A case took too long."""


def fuzz(reader: Reader, cases: int, seed: int, folder: Path, *, most: int = 5) -> list[Failure]:
    """The first `most` different failures of `cases` broken files, written one after the other to `folder`."""
    rng = random.Random(f"{seed} {reader.name}")
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []
    for case in range(cases):
        content = reader.seeds[case] if case < len(reader.seeds) else broken(rng.choice(reader.seeds), rng)
        path.write_bytes(content)
        fault = fault_of(reader, path, sound=case < len(reader.seeds))
        if fault is not None and fault[:_SAME] not in [one.what[:_SAME] for one in failures]:
            failures.append(Failure(reader.name, fault, content))
            if len(failures) == most:
                break
    return failures


def fault_of(reader: Reader, path: Path, *, sound: bool) -> str | None:
    """What is wrong with how a reader takes a file; None where nothing is."""
    try:
        with _at_most(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except (ValueError, OSError) as error:
        text = str(error)
        if sound:
            return f"a sound file is refused: {text}"
        if path.name not in text and path.stem not in text:
            return f"the message does not name the file: {type(error).__name__}: {text[:200]}"
        return None
    except _Hang:
        return f"it takes more than {SECONDS} seconds"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


# --- breaking --------------------------------------------------------------------------------------------------------


def broken(content: bytes, rng: random.Random) -> bytes:
    """A changed copy: as JSON where it is, or as bytes."""
    if content[:1] in b"[{" and rng.random() < 0.7:
        try:
            return _broken_json(content, rng)
        except (ValueError, RecursionError):
            pass  # lines of JSON, or no text
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        _change(changed, rng)
    return bytes(changed)


def _change(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((1, 1, 2, 4, 8, 64, 512)))
    kind = rng.randrange(7)
    if kind == 0 and content:
        content[start % len(content)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        content[start:end] = rng.choice(_INTERESTING)
    elif kind == 2:
        content[start:start] = rng.choice(_INTERESTING) * rng.choice((1, 1, 2, 2000))
    elif kind == 3:
        del content[start:end]
    elif kind == 4:
        content[start:start] = content[start:end] * rng.choice((1, 2, 50))
    elif kind == 5:
        del content[start:]
    else:
        content[start:end] = rng.randbytes(end - start)


def _broken_json(content: bytes, rng: random.Random) -> bytes:
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        document = _with_change(document, rng)
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _with_change(document: Any, rng: random.Random) -> Any:
    holders = list(_holders(document))
    if not holders:
        return rng.choice(_VALUES)
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 1 and isinstance(holder, dict):
        holder[str(rng.choice(_VALUES))[:50]] = holder[key]
    elif kind == 2:
        deep: Any = holder[key]
        for _ in range(rng.choice((1, 3, 80, 150))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        holder[key] = deep
    elif kind == 3:
        other = rng.choice(holders)
        if other:
            holder[key] = copy.deepcopy(rng.choice(list(other.values()) if isinstance(other, dict) else other))
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return document


def _holders(document: Any) -> Iterator[Any]:
    """The lists and objects in a document that hold something."""
    level = [document]
    while level:
        found = [one for one in level if isinstance(one, (dict, list)) and one]
        yield from found
        level = [inner for one in found for inner in (one.values() if isinstance(one, dict) else one)]


# --- limits and the command ------------------------------------------------------------------------------------------


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise _Hang

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    from benchmarks.fuzzed import readers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of each reader; a hundredth of those that are slow")
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files that made something fail")
    args = parser.parse_args()
    logging.disable()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        found = [reader for reader in readers(Path(scratch)) if args.reader in (None, reader.name)]
        _limit_memory()
        for reader in found:
            cases = max(args.cases // 100, 1) if reader.slow else args.cases
            started = time.perf_counter()
            failures = fuzz(reader, cases, args.seed, Path(scratch) / "cases")
            seconds = round(time.perf_counter() - started, 1)
            line = {"reader": reader.name, "cases": cases, "seconds": seconds}
            print(json.dumps(line | {"failures": [one.what for one in failures]}), flush=True)
            failed += len(failures)
            for number, one in enumerate(failures if args.keep else ()):
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{number}-{reader.name}").write_bytes(one.content)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
