"""Seconds of one VQA fine-tuning step: our LXMERT against transformers' in a plain loop; prints one JSON object.

    python -m benchmarks.lxmert_step [--batch 8] [--rounds 3] [--device cuda --dtype bfloat16]

All have the published size, the same weights, 36 boxes and 3129 answers, and train with binary cross-entropy, dropout,
clipping and AdamW. The plain loop pads questions to 20 word pieces, as the original does; "to the longest" pads to the
longest of the batch. Lengths are as in VQA v2: 10 pieces on average. The ways take turns, so that a busy machine is
busy for all; the median of each is told, and of the processor's time, which other programs disturb less.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LxmertConfig as TransformersConfig
from transformers import LxmertForQuestionAnswering

from models.lxmert import LxmertConfig, LxmertForAnswers
from models.lxmert.idle import trained_parameters
from trainers.answer_losses import binary_cross_entropy

ANSWERS, LONGEST, CLIP = 3129, 20, 5.0
#: Word pieces of a question, [CLS], [SEP] and the question mark among them.
LENGTHS = (9, 8, 11, 7, 9, 14, 10, 8, 12, 9, 7, 10, 16, 8, 9, 11)
Step = Callable[[], None]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each, after one to warm up")
    parser.add_argument("--layers", type=int, nargs=3, default=[9, 5, 5], metavar=("L", "X", "R"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


def random_batch(args: argparse.Namespace) -> dict[str, Tensor]:
    lengths = torch.tensor([LENGTHS[row % len(LENGTHS)] for row in range(args.batch)])
    mask = (torch.arange(LONGEST)[None] < lengths[:, None]).long()
    batch = {
        "input_ids": torch.randint(1000, 30000, (args.batch, LONGEST)) * mask,
        "attention_mask": mask,
        "visual_feats": torch.rand(args.batch, args.boxes, 2048),
        "visual_pos": torch.rand(args.batch, args.boxes, 4),
        "scores": (torch.rand(args.batch, ANSWERS) < 0.001).float(),
    }
    return {name: tensor.to(args.device) for name, tensor in batch.items()}


def plain_step(model: nn.Module, batch: dict[str, Tensor], length: int, autocast: Callable[[], Any]) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    inputs = {name: tensor[:, :length] for name, tensor in batch.items() if name in ("input_ids", "attention_mask")}

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            found = model(visual_feats=batch["visual_feats"], visual_pos=batch["visual_pos"], **inputs)
            loss = binary_cross_entropy(found.question_answering_score, batch["scores"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    return step


def our_step(model: LxmertForAnswers, batch: dict[str, Tensor], autocast: Callable[[], Any]) -> Step:
    weights = list(trained_parameters(model).values())
    optimizer = torch.optim.AdamW(weights, lr=5e-5, fused=True)
    inputs: dict[str, Any] = {name: tensor for name, tensor in batch.items() if name != "scores"}

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = binary_cross_entropy(model(**inputs), batch["scores"])
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    return step


def main() -> None:
    args = parse()
    torch.manual_seed(0)
    layers = dict(zip(("l_layers", "x_layers", "r_layers"), args.layers, strict=True))
    batch = random_batch(args)
    ours = LxmertForAnswers(LxmertConfig(num_qa_labels=ANSWERS, **layers)).to(args.device)
    theirs = LxmertForQuestionAnswering(TransformersConfig(num_qa_labels=ANSWERS, **layers)).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    difference = check(ours, theirs, batch)
    dtype = getattr(torch, args.dtype)

    def autocast() -> Any:
        return torch.autocast(args.device, dtype, enabled=dtype != torch.float32)

    longest = int(batch["attention_mask"].sum(1).max())
    steps = {
        "plain loop": plain_step(theirs.train(), batch, LONGEST, autocast),
        "plain loop, padded to the longest": plain_step(theirs.train(), batch, longest, autocast),
        "ours": our_step(ours.train(), batch, autocast),
    }
    print(json.dumps({"largest_difference_of_logits": difference, **compared(steps, args)}))


@torch.no_grad()
def check(ours: LxmertForAnswers, theirs: nn.Module, batch: dict[str, Tensor]) -> float:
    """How far apart the logits of both are without dropout."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "scores"}
    found = theirs.eval()(**inputs).question_answering_score - ours.eval()(**inputs)
    return found.abs().max().item()


def compared(steps: dict[str, Step], args: argparse.Namespace) -> dict[str, Any]:
    wall: dict[str, list[float]] = {name: [] for name in steps}
    busy: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds + 1):
        for name, step in steps.items():
            started, used = time.perf_counter(), time.process_time()
            step()
            if args.device == "cuda":
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - started)
            busy[name].append(time.process_time() - used)
    seconds = {name: statistics.median(times[1:]) for name, times in wall.items()}
    processor = {name: statistics.median(times[1:]) for name, times in busy.items()}
    return {
        "batch": args.batch,
        "threads": torch.get_num_threads(),
        "step_s": seconds,
        "processor_s": processor,
        "times_as_fast": {name: round(seconds[name] / seconds["ours"], 2) for name in steps},
        "times_as_fast_processor": {name: round(processor[name] / processor["ours"], 2) for name in steps},
    }


if __name__ == "__main__":
    main()
