"""Opening LXMERT's region features: its own way (the TSV into memory) beside the feature store; prints JSON.

A TSV file of made-up features is written to a scratch folder, and imported once. Then, each in a process of its own:
open the features, fork the workers, and let every worker read every picture once. `seconds` are those of opening.
`memory` is what opening and reading added to the process and its workers, in MB, at the end: pages that several of them
share count once (PSS), and pages of files are named apart, since the system can take them back at any time.

The full file of the wanted comparison is `--images 5000 --width 2048`: 2 GB of text, 1.5 GB in memory.

    python -m benchmarks.feature_store [--images 1000] [--width 512] [--boxes 36] [--workers 4] [--dtype float16]
"""

import argparse
import base64
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from data.features.importing import import_features
from data.features.store import FeatureStore

SIZE = 500  # pixels of a picture, each way
ARRAYS = {
    "objects_id": "<i8",
    "objects_conf": "<f4",
    "attrs_id": "<i8",
    "attrs_conf": "<f4",
    "boxes": "<f4",
    "features": "<f4",
}


def write_tsv(path: Path, images: int, boxes: int, width: int) -> None:
    """Made-up features of so many pictures."""
    rng = np.random.default_rng(1)
    with open(path, "wb") as stream:
        for number in range(images):
            corners = np.sort(rng.uniform(0, SIZE, (boxes, 2, 2)), axis=1).reshape(boxes, 4)
            values = [
                rng.integers(1600, size=boxes),
                rng.random(boxes),
                rng.integers(400, size=boxes),
                rng.random(boxes),
                corners,
                rng.random((boxes, width)),
            ]
            coded = [base64.b64encode(v.astype(t).tobytes()) for v, t in zip(values, ARRAYS.values(), strict=True)]
            head = [f"{number}".encode(), *[str(SIZE).encode()] * 2]
            stream.write(b"\t".join([*head, *coded[:4], str(boxes).encode(), *coded[4:]]) + b"\r\n")


def load_tsv(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The original's way: every line decoded and kept, picture id -> arrays."""
    found = {}
    with open(path, "rb") as stream:
        for line in stream:
            cells = line.rstrip(b"\r\n").split(b"\t")
            coded = [*cells[3:7], *cells[8:]]
            arrays = {
                name: np.frombuffer(base64.b64decode(cell), dtype)
                for (name, dtype), cell in zip(ARRAYS.items(), coded, strict=True)
            }
            count = int(cells[7])
            arrays["boxes"] = arrays["boxes"].reshape(count, 4)
            arrays["features"] = arrays["features"].reshape(count, -1)
            found[cells[0].decode()] = arrays
    return found


def memory(pids: list[int]) -> tuple[float, float]:
    """MB of all processes together: their own memory, and pages of files."""
    own = files = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss_Anon", "Pss_Shmem"):
                own += int(rest.split()[0])
            elif name == "Pss_File":
                files += int(rest.split()[0])
    return own / 1024, files / 1024


def measure(path: Path, way: str, workers: int, result: Connection) -> None:
    """Opens the features, lets the workers read all of them, and sends what that took."""
    before = memory([os.getpid()])
    start = time.perf_counter()
    features: Any = load_tsv(path) if way == "tsv" else FeatureStore(path)
    seconds = time.perf_counter() - start
    names = list(features)
    read: Callable[[str], np.ndarray] = (
        (lambda name: features[name]["features"]) if way == "tsv" else (lambda name: features[name].features)
    )
    start = time.perf_counter()
    children = [_worker(read, names[number:] + names[:number]) for number in range(workers)]
    for pid in children:
        os.waitpid(pid, os.WUNTRACED)  # each stops when it has read all
    reading = time.perf_counter() - start
    own, files = memory([os.getpid(), *children])
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    megabytes = {"own": own - before[0], "files": files - before[1]}
    result.send({"seconds": seconds, "reading": reading, **megabytes, "together": sum(megabytes.values())})


def _worker(read: Callable[[str], np.ndarray], names: list[str]) -> int:
    """A forked reader: it reads every picture into a batch's place, then stops itself."""
    pid = os.fork()
    if pid == 0:
        for name in names:
            np.asarray(read(name), dtype=np.float32).sum()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    return pid


def in_a_process(path: Path, way: str, workers: int) -> dict[str, float]:
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=measure, args=(path, way, workers, sender))
    process.start()
    sender.close()
    found: dict[str, float] = receiver.recv()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512, help="numbers of a region; LXMERT's have 2048")
    parser.add_argument("--boxes", type=int, default=36)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tsv, store = Path(scratch) / "features.tsv", Path(scratch) / "store"
        write_tsv(tsv, arguments.images, arguments.boxes, arguments.width)
        start = time.perf_counter()
        import_features([tsv], store, dtype=arguments.dtype)
        importing = time.perf_counter() - start
        found = {
            "tsv": in_a_process(tsv, "tsv", arguments.workers),
            "store": in_a_process(store, "store", arguments.workers),
        }
        size = tsv.stat().st_size / 2**20
    report = {way: {name: round(value, 4) for name, value in row.items()} for way, row in found.items()}
    times = {
        "sooner": round(found["tsv"]["seconds"] / found["store"]["seconds"]),
        "less_memory": round(found["tsv"]["together"] / found["store"]["together"], 1),
        "less_own_memory": round(found["tsv"]["own"] / max(found["store"]["own"], 0.1), 1),
    }
    print(
        json.dumps({**vars(arguments), "tsv_mb": round(size), "import_seconds": round(importing, 1), **report, **times})
    )


if __name__ == "__main__":
    main()
