"""Seconds and memory of a TRAR training step at published size, beside the published arithmetic told plainly.

    python -m benchmarks.trar_step [--batch 64] [--steps 3] [--rounds 2] [--grow] [--device cpu] [--dtype float32]

Each way runs in a process of its own, one after the other, round after round, and its quickest round counts: `plain`
(`benchmarks/trar_plain.py`, Adam as torch has it), `plain_memory` (the same with the settings of memory that this
project's training makes: huge pages, freed memory kept), and `ours` with the same settings. --grow times `plain_memory`
and `ours` with more orders and larger grids, two layers, 16 images. That both networks give the same answers is tested
in tests/models/trar. Prints JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WAYS = ("plain", "plain_memory", "ours")
GROWTH = [(8, (0,)), (8, (0, 1)), (8, (0, 1, 2, 3)), (14, (0, 1, 2, 3)), (16, (0, 1, 2, 3))]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one to warm up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--grid", type=int, default=8)
    parser.add_argument("--orders", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step, of its parts and of one layer's routed attention alone; the peak of memory in MB."""
    if args.way != "plain":
        from trainers.memory import keep_freed_memory

        keep_freed_memory()
    import torch

    torch.manual_seed(0)
    net = network(args, words=20572, answers=3129, layers=args.layers).to(args.device).train()
    adam: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-9, "fused": args.way == "ours" or None}
    optimizer = torch.optim.Adam(net.parameters(), **adam)
    samples = [part.to(args.device) for part in batch(args.batch, args.grid)]
    rows = [step(args, net, optimizer, samples) for _ in range(args.steps + 1)][1:]
    peak = torch.cuda.max_memory_allocated() if args.device == "cuda" else _peak_bytes()
    names = ("step_s", "forward_s", "backward_s", "update_s")
    found = {
        name: round(statistics.median(column), 3) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return {**found, "attention_s": attention(args), "peak_mb": peak // 2**20}


def network(args: argparse.Namespace, **sizes: Any) -> Any:
    from benchmarks.trar_plain import PlainTrar
    from models.trar import TrarConfig, TrarModel

    config = TrarConfig(grid=args.grid, orders=tuple(args.orders), **sizes)
    return TrarModel(config) if args.way == "ours" else PlainTrar(config)


def step(args: argparse.Namespace, net: Any, optimizer: Any, samples: Any) -> tuple[float, float, float, float]:
    """Seconds of a training step, and of its three parts."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    features, questions, targets = samples
    dtype = getattr(torch, args.dtype)
    began = clock(args.device)
    optimizer.zero_grad()
    with torch.autocast(args.device, dtype=dtype, enabled=dtype != torch.float32):
        out = net(features, questions)
    logits = (out.logits if args.way == "ours" else out).float()
    loss = binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    forward = clock(args.device)
    loss.backward()
    backward = clock(args.device)
    optimizer.step()
    done = clock(args.device)
    return done - began, forward - began, backward - forward, done - backward


def attention(args: argparse.Namespace, heads: int = 8, width: int = 64) -> float:
    """Seconds of one routed attention alone, forwards and backwards, dropout 0.1; the least of seven."""
    import torch

    from benchmarks.trar_plain import attend
    from models.trar.routed_attention import routed_attention
    from models.trar.spans import outside_spans

    shape = (args.batch, args.grid**2, heads, width)
    q, k, v = (torch.randn(shape, device=args.device).transpose(1, 2).requires_grad_() for _ in range(3))
    alphas = torch.rand(args.batch, len(args.orders), device=args.device).requires_grad_()
    outside = outside_spans(args.grid, tuple(args.orders)).to(args.device)
    dropout = torch.nn.Dropout(0.1)
    seconds = []
    for _ in range(7):
        began = clock(args.device)
        if args.way == "ours":
            out = routed_attention(q, k, v, alphas, outside, dropout=0.1)
        else:
            out = attend(q, k, v, alphas, list(outside), dropout)
        out.backward(torch.ones_like(out))
        seconds.append(clock(args.device) - began)
    return round(min(seconds), 4)


def batch(images: int, grid: int) -> Any:
    """Full grids, and questions of 4 to 14 words."""
    import torch

    features = torch.randn(images, grid * grid, 2048)
    questions = torch.randint(3, 20572, (images, 14))
    lengths = torch.randint(4, 15, (images, 1))
    questions[torch.arange(14) >= lengths] = 0
    targets = torch.rand(images, 3129) * (torch.rand(images, 3129) > 0.999)
    return features, questions, targets


def clock(device: str) -> float:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_bytes() -> int:
    """Of this process, in bytes; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_process(way: str, args: argparse.Namespace, **changes: Any) -> dict[str, Any]:
    settings = {name: getattr(args, name) for name in ("batch", "steps", "grid", "layers", "device", "dtype")} | changes
    orders = settings.pop("orders", args.orders)
    command = [sys.executable, "-m", "benchmarks.trar_step", "--way", way, "--orders", *map(str, orders)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    huge_pages = {} if way == "plain" else {"THP_MEM_ALLOC_ENABLE": "1"}
    environment = os.environ | huge_pages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace) -> dict[str, Any]:
    if not args.grow:
        found = quickest(WAYS, args)
        return {**found, **{f"times_as_fast_as_{way}": ratios(found, way) for way in WAYS[:2]}}
    rows = []
    for grid, orders in GROWTH:
        found = quickest(WAYS[1:], args, grid=grid, orders=orders, batch=16, layers=2)
        rows.append({"grid": grid, "orders": orders, **found, "times_as_fast": ratios(found, "plain_memory")})
    return {"growth": rows}


def quickest(ways: Sequence[str], args: argparse.Namespace, **changes: Any) -> dict[str, dict[str, Any]]:
    """Each way's round with the least seconds a step; the least of all rounds for the attention alone."""
    rounds = [{way: in_process(way, args, **changes) for way in ways} for _ in range(args.rounds)]
    best = {way: min((found[way] for found in rounds), key=lambda row: row["step_s"]) for way in ways}
    alone = {way: min(found[way]["attention_s"] for found in rounds) for way in ways}
    return {way: {**best[way], "attention_s": alone[way]} for way in ways}


def ratios(found: dict[str, dict[str, Any]], way: str) -> dict[str, float]:
    """How many times the seconds and the memory of `ours` another way takes."""
    names = {"step": "step_s", "attention": "attention_s", "memory": "peak_mb"}
    return {name: round(found[way][key] / found["ours"][key], 2) for name, key in names.items()}


def main() -> None:
    args = parse()
    print(json.dumps(measure(args) if args.way else compare(args)))


if __name__ == "__main__":
    main()
