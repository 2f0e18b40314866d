"""What pre-training is worth: fine-tuning after it against fine-tuning alone, at equal updates; prints a table.

    python -m benchmarks.pretraining [--system lxmert] [--images 1500] [--pretraining 600] [--updates 100 300]
                                     [--seeds 7] [--folder DIR]

On the drawn scenes, with the networks of conf/demo_SYSTEM.json and conf/demo_SYSTEM_pretrain.json; SYSTEM is lxmert or
visualbert. Pre-training sees captions and questions of the pictures that are trained on: LXMERT in one row with the
answers and in one without them, VisualBERT with them, as words that stand behind a question. What it costs is in no row
but the last: fine-tuning alone for as many updates as both together. Accuracy on the held-out pictures, the mean over
seeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRETRAINED: dict[str, dict[str, list[str]]] = {
    "lxmert": {
        "pre-trained without answers": ["train.losses=words,matched,objects,attributes,features"],
        "pre-trained with answers": [],
    },
    "visualbert": {"pre-trained": []},
}
"""System -> row -> settings of its pre-training."""


def run(conf: str, command: str, folder: Path, *sets: str) -> str:
    """The last line of stdout of a command of finetune.py, in a process of its own."""
    given = [part for one in sets for part in ("--set", one)]
    words = [sys.executable, "finetune.py", "--conf", f"conf/{conf}.json", *given, command, "--work_dir", str(folder)]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(found.stderr)
    return found.stdout.splitlines()[-1] if found.stdout else ""


def fine_tuned(conf: str, folder: Path, updates: int, common: Sequence[str], checkpoint: Path | None) -> float:
    """Accuracy after so many updates, from a checkpoint or from nothing."""
    start = [f"model.checkpoint={checkpoint}"] if checkpoint else []
    sets = [*common, *start, f"train.max_steps={updates}", "train.max_epochs=1000", f"train.checkpoint_every={updates}"]
    run(conf, "train", folder, *sets)
    return json.loads(run(conf, "eval", folder, *sets, "eval.bootstrap=0"))["accuracy"]


def of_seed(root: Path, seed: int, args: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Row -> updates of fine-tuning -> accuracy."""
    conf, common = f"demo_{args.system}", [f"seed={seed}", f"data.demo_images={args.images}"]
    steps = [f"train.max_steps={args.pretraining}", "train.max_epochs=1000"]
    steps += [f"train.checkpoint_every={args.pretraining}"]
    rows: dict[str, dict[int, float]] = {}
    for name, sets in {"alone": None, **PRETRAINED[args.system]}.items():
        checkpoint = None
        if sets is not None:
            folder = root / name.replace(" ", "_")
            run(f"{conf}_pretrain", "train", folder, *common, *steps, *sets)
            checkpoint = folder / "checkpoints" / "last"
        rows[name] = {
            updates: fine_tuned(conf, root / f"{name.replace(' ', '_')}_{updates}", updates, common, checkpoint)
            for updates in args.updates
        }
        print(json.dumps({"seed": seed, name: rows[name]}), file=sys.stderr, flush=True)
    rows["alone, updates of both"] = {
        updates: fine_tuned(conf, root / f"both_{updates}", updates + args.pretraining, common, None)
        for updates in args.updates
    }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=sorted(PRETRAINED), default="lxmert")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--pretraining", type=int, default=600)
    parser.add_argument("--updates", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--folder")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(args.folder or temporary)
        found = [of_seed(root / f"seed_{seed}", seed, args) for seed in args.seeds]
    print(f"| fine-tuning of {args.system} | " + " | ".join(f"{updates} updates" for updates in args.updates) + " |")
    print("| --- |" + " --- |" * len(args.updates))
    for name in found[0]:
        means = [statistics.fmean(rows[name][updates] for rows in found) for updates in args.updates]
        print(f"| {name} | " + " | ".join(f"{100 * mean:.1f}" for mean in means) + " |")
    print(f"{len(args.seeds)} seed(s), {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
