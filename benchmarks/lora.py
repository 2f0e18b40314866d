"""Memory and seconds of an update with and without LoRA, and how many parameters it trains.

    python -m benchmarks.lora [--size tiny] [--rank 8] [--batch 8] [--styles 4] [--runs 5] [--count-only]

Each side runs in a process of its own: `peak_mb` is the process's peak resident memory less what it had before the
model was built; `update_s` the median of `--runs` updates of step 1 after one to warm up (the tower is frozen on both
sides). Images of 224 pixels, captions of 16 tokens, random weights. `counted` is computed from shapes alone.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SIDES = ("full", "lora")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--styles", type=int, default=4, help="rows of the embedding that are trained with it")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def build(args: argparse.Namespace, side: str) -> Any:
    """The model of a side, with what it does not train frozen."""
    import torch

    from models.ofa import OFAModel, preset_config
    from models.ofa.adapters import LoraSettings, add_lora

    model = OFAModel(preset_config(args.size))
    model.encoder.embed_images.requires_grad_(False)
    if side == "lora":
        width, first = model.config.d_model, model.config.vocab_size - 8192 - 1000
        rows = {first + style: torch.zeros(width) for style in range(args.styles)}
        add_lora(model, LoraSettings(rank=args.rank), rows)
    return model


def counted(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters in all and trained, and the bytes of weights, gradients and AdamW's two moments, in float32."""
    import torch

    report: dict[str, Any] = {}
    for side in SIDES:
        with torch.device("meta"):
            model = build(args, side)
        every = sum(parameter.numel() for parameter in model.parameters())
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        report[side] = {"parameters": every, "trained": trained, "state_mb": round((4 * every + 12 * trained) / 2**20)}
    return report


def measured(args: argparse.Namespace) -> dict[str, float]:
    import torch

    from trainers.cross_entropy import CrossEntropy
    from trainers.optimizer import adamw

    torch.manual_seed(0)
    before = peak_mb()
    model = build(args, args.side).train()
    model.encoder.embed_images.eval()
    optimizer = adamw(model, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    objective, batch = CrossEntropy(pad=1, label_smoothing=0.1), random_batch(args.batch)
    seconds = []
    for _ in range(args.runs + 1):
        started = time.perf_counter()
        (objective(model, batch, 0).loss_sum / objective.count(batch, 0)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    return {"update_s": round(statistics.median(seconds[1:]), 3), "peak_mb": round(peak_mb() - before)}


def random_batch(images: int) -> dict[str, Any]:
    import torch

    tokens = torch.randint(4, 50000, (images, 16))
    prompts = torch.randint(4, 50000, (images, 15))
    return {
        "input_ids": prompts,
        "patch_images": torch.randn(images, 3, 224, 224),
        "patch_masks": torch.ones(images, dtype=torch.bool),
        "image_index": torch.arange(images),
        "encoder_index": torch.arange(images),
        "even": True,
        "decoder_input_ids": torch.cat([torch.zeros(images, 1, dtype=torch.long), tokens[:, :-1]], dim=1),
        "target": tokens,
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps(measured(args)))
        return
    report: dict[str, Any] = {"size": args.size, "rank": args.rank, "counted": counted(args)}
    for side in () if args.count_only else SIDES:
        command = [sys.executable, "-m", "benchmarks.lora", *sys.argv[1:], "--side", side]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        report[side] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
