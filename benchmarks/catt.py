"""What causal attention costs beside "none": seconds and memory of a fine-tuning step; prints one JSON object.

    python -m benchmarks.catt [--batch 4] [--rounds 2] [--device cuda]

Each mode trains in a process of its own, so that its peak memory is its own. `flops` are those of a forward pass,
counted by torch; `floor` are the least that the paper's mechanism adds to it: the projections and products of the
attention over dictionaries and over what was found there, without the feed-forward layers behind. The keys and values
of a dictionary are made once a batch.
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

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.lxmert_step import ANSWERS, LONGEST, random_batch
from models.lxmert import LxmertConfig, LxmertForAnswers
from models.lxmert.idle import trained_parameters
from trainers.answer_losses import binary_cross_entropy

ROOT = Path(__file__).resolve().parents[1]
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "ft_same g2g": {"causal_attention": "ft_same"},
    "ft_same g2l": {"causal_attention": "ft_same", "cross_type": "g2l"},
    "ft g2g": {"causal_attention": "ft"},
    "ft_large g2g": {"causal_attention": "ft", "ft_large": True},
    "ft_fixed g2g": {"causal_attention": "ft_fixed"},
}


def attention_floor(config: LxmertConfig, batch: int, words: int, boxes: int) -> int:
    """FLOPs of the branch's attention in a forward pass for answers, two a multiplication with an addition.

    A layer looks from n rows at m: the projections of queries (own weights alone need them), keys, values and output,
    and both products. Of the last cross-modality layer the words' side alone is needed.
    """
    if not config.is_causal:
        return 0
    own = config.causal_attention != "ft_same"

    def look(rows: int, seen: int, keys: int) -> int:
        width = config.hidden_size
        projections = 2 * width * width * ((2 if own else 1) * rows + 2 * keys)
        return projections + 2 * 2 * rows * seen * width

    total = 0
    sides = [(config.r_layers, boxes, config.dictionary_boxes)]
    if config.cross_type == "g2g" or config.causal_attention == "ft_fixed":
        sides += [(config.l_layers, words, config.dictionary_words)]  # else the answer needs nothing of it
    for layers, places, entries in sides:
        total += look(batch * places, entries, entries)
        again = layers - 1 if not own or config.ft_large else 0
        total += again * look(batch * places, places, batch * places)
    cross = look(batch * words, boxes, batch * boxes)
    total += cross + look(batch, words, batch * words)
    if config.causal_attention == "ft_fixed":
        whole = cross + look(batch * words, words, batch * words)
        whole += look(batch * boxes, words, batch * words) + look(batch * boxes, boxes, batch * boxes)
        total += (config.x_layers - 1) * whole
    return total


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, memory and FLOPs of one mode."""
    torch.manual_seed(0)
    layers = dict(zip(("l_layers", "x_layers", "r_layers"), args.layers, strict=True))
    config = LxmertConfig(num_qa_labels=ANSWERS, **layers, **MODES[name])
    model = LxmertForAnswers(config).to(args.device).train()
    weights = list(trained_parameters(model).values())
    optimizer = torch.optim.AdamW(weights, lr=5e-5, fused=True)
    batch = random_batch(args)
    scores = batch.pop("scores")
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])  # the floor counts full sentences
    counter = FlopCounterMode(display=False)
    with counter:
        model(**batch)
    seconds = []
    for _ in range(args.rounds + 1):
        started = time.process_time() if args.device == "cpu" else time.perf_counter()
        optimizer.zero_grad()
        loss = binary_cross_entropy(model(**batch), scores)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.process_time() if args.device == "cpu" else time.perf_counter()) - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if args.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {
        "step_s": statistics.median(seconds[1:]),
        "peak_gb": round(peak / 2**30, 2),
        "trained_parameters": sum(weight.numel() for weight in weights),
        "flops": counter.get_total_flops(),
        "floor": attention_floor(config, args.batch, LONGEST, args.boxes),
    }


def beside_none(found: dict[str, dict[str, Any]]) -> None:
    """Add to each mode what it costs more than none, and how much of that the floor explains."""
    none = found["none"]
    for facts in found.values():
        facts["times_the_step"] = round(facts["step_s"] / none["step_s"], 2)
        facts["times_the_memory"] = round(facts["peak_gb"] / none["peak_gb"], 2)
        if facts["floor"]:
            facts["extra_flops_over_floor"] = round((facts["flops"] - none["flops"]) / facts["floor"], 2)
            facts["floor_share_of_none"] = round(facts["floor"] / none["flops"], 3)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--boxes", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=2, help="timed steps of each mode, after one to warm up")
    parser.add_argument("--layers", type=int, nargs=3, default=[9, 5, 5], metavar=("L", "X", "R"))
    parser.add_argument("--device", default="cpu", help="on a CPU, seconds are those of the processor")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.mode:
        print(json.dumps(measure(args.mode, args)))
        return
    found = {}
    for mode in MODES:
        command = [sys.executable, "-m", "benchmarks.catt", "--mode", mode, *sys.argv[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{mode} failed:\n{done.stderr[-2000:]}")
        found[mode] = json.loads(done.stdout.splitlines()[-1])
    beside_none(found)
    print(json.dumps({"batch": args.batch, "threads": torch.get_num_threads(), "modes": found}))


if __name__ == "__main__":
    main()
