"""Seconds of one SCST step: this project's against the usual public recipe on ModelScope's OFA (the peer).

    python benchmarks/scst_step.py --peer PEER_PYTHON PEER_RUN.py [--sizes tiny base] [--rounds 3]

The peer has an environment of its own (its module docstring says which). Both run in processes of their own, one after
the other, round after round; each process reports the median of its runs. Weights are random on both sides and the work
is that of trained ones: `batch` images of 224 pixels, 5 candidates of 16 tokens each, CIDEr of all, backward. Without
--peer, only ours is timed. Prints one JSON object.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
REFERENCES = ["a man rides a red bike down the street", "the man is riding a bike"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "SCRIPT"))
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3, help="timed steps of a process, after one to warm up")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--candidates", nargs="+", default=["multinomial", "beam"])
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def time_ours(args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step for each kind of candidates, and of the parts of the last one."""
    import torch

    from models.ofa import OFAModel, preset_config

    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    rates = {"dropout": 0.0, "encoder_drop_path_rate": 0.0, "decoder_drop_path_rate": 0.0}
    model = OFAModel(preset_config(args.sizes[0], **rates)).to(args.device)
    model.encoder.embed_images.to(memory_format=torch.channels_last)
    batch = random_batch(args.batch, args.image, args.device)
    result: dict[str, Any] = {}
    for kind in args.candidates:
        objective = make_objective(kind)
        objective.set_mode(model)
        parts: dict[str, float] = {}

        def step(objective: Any = objective, parts: dict[str, float] = parts) -> None:
            model.zero_grad(set_to_none=True)
            with torch.autocast(args.device, dtype=dtype, enabled=dtype != torch.float32):
                prepared = objective.prepare(model, batch)
            started = time.perf_counter()
            with torch.autocast(args.device, dtype=dtype, enabled=dtype != torch.float32):
                output = objective(model, prepared, 0)
            (output.loss_sum / objective.count(batch, 0)).backward()
            if args.device == "cuda":
                torch.cuda.synchronize()
            parts.update({name: float(output.logs[name][0]) for name in ("sample_s", "reward_s")})
            parts["backward_s"] = time.perf_counter() - started

        result[kind] = {"step_s": timed(step, args.runs, args.device), **parts}
        objective.close()
    return result


def random_batch(images: int, side: int, device: str) -> dict[str, Any]:
    """What the collate of a run would give for `images` images with a prompt each."""
    import torch

    from preprocessors.collate import Asked

    prompts = torch.randint(4, 50000, (images, 15), device=device)
    prompts[:, 0], prompts[:, -1] = 0, 2
    pixels = torch.randn(images, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    requests = [{"image_id": str(i), "style": "Factual", "references": REFERENCES} for i in range(images)]
    return {
        "input_ids": prompts,
        "patch_images": pixels,
        "patch_masks": torch.ones(images, dtype=torch.bool, device=device),
        "image_index": torch.arange(images, device=device),
        "encoder_index": torch.arange(images, device=device),
        "requests": requests,
        "asked": Asked.of(range(images), [0] * images, requests),
    }


def make_objective(kind: str) -> Any:
    from metrics.cider import DocumentFrequency
    from rewards.calculator import RewardCalculator
    from rewards.text import CiderDReward
    from trainers.scst import SelfCritical

    table = DocumentFrequency.of([REFERENCES])
    calculator = RewardCalculator({"cider-d": CiderDReward(table)}, {"cider-d": 1.0}, workers=2)
    return SelfCritical(
        calculator=calculator,
        decode=lambda rows: [" ".join(f"w{token}" for token in row) for row in rows],
        candidates=kind,  # type: ignore[arg-type]
        num_candidates=5,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_len_b=16,
        baseline="leave_one_out",
        normalise_advantages="none",
        reduction="sequence",
    )


def timed(step: Any, runs: int, device: str) -> float:
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def in_process(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace) -> dict[str, Any]:
    shared = [f"--{name}={getattr(args, name)}" for name in ("runs", "batch", "image", "device", "dtype")]
    report: dict[str, Any] = {}
    for size in args.sizes:
        ours, peer = [], []
        for _ in range(args.rounds):
            own = [sys.executable, "-m", "benchmarks.scst_step", "--ours", "--sizes", size, *shared]
            ours.append(in_process([*own, "--candidates", *args.candidates]))
            if args.peer:
                peer.append(in_process([*args.peer, f"--size={size}", *shared, "--work", "scst"])["scst_s"])
        report[size] = {"ours": ours, "peer_step_s": peer}
        if peer:
            report[size]["times_as_fast"] = {
                kind: round(statistics.median(peer) / statistics.median(run[kind]["step_s"] for run in ours), 2)
                for kind in args.candidates
            }
    return report


def main() -> None:
    args = parse()
    print(json.dumps(time_ours(args) if args.ours else compare(args)))


if __name__ == "__main__":
    main()
