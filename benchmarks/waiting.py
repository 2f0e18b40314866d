"""Seconds of an update while other processes want the same cores, for ways in which OpenMP's threads may wait.

    python -m benchmarks.waiting --busy 0 15

Each measurement is a process of its own, for the policy is read when OpenMP starts. Prints a line of JSON each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POLICIES = {
    "short spin": {},  # what finetune.py chooses
    "long spin": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own choice
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def seconds_of_an_update(environment: dict[str, str], updates: int) -> float:
    """Mean over the second half of a short training of the embedded default."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [f"train.max_steps={updates}", "data.demo_images=560", "train.checkpoint_every=100000"]
        sets += [f"train.log_every={updates // 2}", "data.num_workers=0", "train.tensorboard=false"]
        command = [sys.executable, "finetune.py", "--conf", "train_conf.json", "--work_dir", folder, "train"]
        command += [part for item in sets for part in ("--set", item)]
        subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True)
        lines = [json.loads(line) for line in (Path(folder) / "history.jsonl").read_text().splitlines()]
    return [line["seconds_per_step"] for line in lines if "seconds_per_step" in line][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 15], help="processes that want the cores as well")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    given = parser.parse_args()
    for busy in given.busy:
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for name in given.policies:
                seconds = seconds_of_an_update(POLICIES[name], given.updates)
                print(json.dumps({"busy": busy, "policy": name, "seconds": round(seconds, 3)}), flush=True)
        finally:
            for loop in loops:
                loop.kill()


if __name__ == "__main__":
    main()
