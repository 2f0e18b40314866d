"""Images a second of two data-parallel ranks (gloo) beside one, on this machine's CPU; prints JSON.

Each way trains the embedded default's model on 16 images an update in all: one rank with one thread, one rank with two,
two ranks with a thread and 8 images each. `efficiency` compares the two ranks with twice the rank of one thread.

    python -m benchmarks.scaling [--steps 60]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES, EVERY = 16, 10
WAYS = {"one rank, one thread": (1, 1), "one rank, two threads": (1, 2), "two ranks, a thread each": (2, 1)}


def measure(ranks: int, threads: int, steps: int, folder: Path) -> float:
    """Images a second, the first updates left out."""
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command += ["finetune.py", "--conf", "train_conf.json", "train", "--batch_size", str(IMAGES // ranks)]
    work_dir = folder / f"{ranks}x{threads}"
    work_dir.mkdir()
    (work_dir / "demo_data").symlink_to(folder / "demo_data", target_is_directory=True)
    settings = {"train.max_steps": steps, "train.checkpoint_every": 10**6, "train.log_every": EVERY}
    settings |= {"data.demo_images": 600, "eval.beam_size": 1}
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [*command, "--work_dir", str(work_dir)], cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL
    )
    rows = [json.loads(line) for line in (work_dir / "history.jsonl").read_text().splitlines()]
    seconds = [row["seconds_per_step"] for row in rows if "seconds_per_step" in row][1:]
    return IMAGES / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="updates of each way (default 60)")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "demo_data").mkdir()
        found = {name: measure(*way, steps, folder) for name, way in WAYS.items()}
    one, _, two = found.values()
    report = {name: round(rate, 1) for name, rate in found.items()}
    print(json.dumps({"images_per_second": report, "efficiency": round(two / (2 * one), 2)}))


if __name__ == "__main__":
    main()
