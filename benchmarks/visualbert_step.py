"""VisualBERT: seconds of a training step beside transformers' class; prints one JSON object.

    python benchmarks/visualbert_step.py [--layers 4] [--batch 16] [--rounds 3] [--device cuda --dtype bfloat16]

A step is forward, loss and backward of the same weights on the same batch, turn about. Texts have the lengths of VQA's
questions, of NLVR2's sentences and of COCO's caption pairs and are padded to the longest of the batch; images have 100
regions of 2048 numbers (vqa, captions), or 2 x 144 of 1024 (nlvr2). `padded` gives transformers' class texts padded to
128, as its examples and the Paddle reproduction do.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from torch import Tensor, nn

from models.visualbert import HEADS, VisualBERTConfig, VisualBERTModel

#: Cases: head, words of a text, regions, width of a region, words that are masked.
CASES: dict[str, tuple[str, tuple[int, int], int, int, bool]] = {
    "vqa": ("vqa", (6, 16), 100, 2048, False),
    "nlvr2": ("nlvr2", (10, 32), 288, 1024, False),
    "captions": ("pretraining", (20, 36), 100, 2048, True),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4, help="of the released models' 12")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the matrix products")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    return parser.parse_args()


def step_case(args: argparse.Namespace, name: str) -> dict[str, float]:
    head, lengths, regions, width, masked = CASES[name]
    labels: dict[str, Any] = {"num_labels": 3129} if head == "vqa" else {}
    config = VisualBERTConfig(head=head, visual_embedding_dim=width, num_hidden_layers=args.layers, **labels)
    torch.manual_seed(0)
    ours = VisualBERTModel(config).to(args.device)
    fields = {field: value for field, value in config.to_dict().items() if field != "head"}
    theirs = getattr(transformers, HEADS[head])(transformers.VisualBertConfig.from_dict(fields)).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    batch = {
        key: value.to(args.device) for key, value in step_batch(args.batch, lengths, regions, width, masked).items()
    }
    batch |= step_targets(head, args.batch, args.device)
    plain, longer = for_theirs(batch, head), for_theirs(padded(batch, 128), head)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours_s": lambda: ours(**batch).loss,
        "theirs_s": lambda: theirs(**plain).loss,
        "padded_s": lambda: theirs(**longer).loss,
    }
    models = {"ours_s": ours, "theirs_s": theirs, "padded_s": theirs}
    with torch.autocast(args.device, getattr(torch, args.dtype), enabled=args.dtype != "float32"):
        times = turn_about({way: stepping(models[way].train(), loss) for way, loss in ways.items()}, args)
    return times | {
        "faster": times["theirs_s"] / times["ours_s"],
        "faster_than_padded": times["padded_s"] / times["ours_s"],
    }


def stepping(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def step_batch(rows: int, lengths: tuple[int, int], regions: int, width: int, masked: bool) -> dict[str, Tensor]:
    words = torch.randint(lengths[0], lengths[1] + 1, (rows,))
    words[0] = lengths[1]
    mask = torch.arange(lengths[1]) < words[:, None]
    batch = {
        "input_ids": torch.randint(1000, 30000, mask.shape) * mask,
        "text_mask": mask.long(),
        "segment_ids": torch.zeros(mask.shape, dtype=torch.long),
        "features": torch.rand(rows, regions, width),
        "box_mask": torch.ones(rows, regions, dtype=torch.long),
        "box_types": torch.zeros(rows, regions, dtype=torch.long),
    }
    if masked:
        chosen = (torch.rand(mask.shape) < 0.15) & mask
        chosen[0, 1] = True
        batch["word_labels"] = torch.where(chosen, batch["input_ids"], -1)
    return batch


def step_targets(head: str, rows: int, device: str) -> dict[str, Tensor]:
    if head == "vqa":
        return {"labels": torch.rand(rows, 3129, device=device)}
    return {"labels": torch.randint(0, 2, (rows,), device=device)}


def padded(batch: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    """The same texts with padding up to `length`."""
    extra = length - batch["input_ids"].shape[1]
    texts = {"input_ids": 0, "text_mask": 0, "segment_ids": 0, "word_labels": -1}
    return {
        name: nn.functional.pad(tensor, (0, extra), value=texts[name]) if name in texts else tensor
        for name, tensor in batch.items()
    }


def for_theirs(batch: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """Keywords of transformers' classes; labels cover the regions there, -100 is none."""
    given = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["text_mask"],
        "token_type_ids": batch["segment_ids"],
        "visual_embeds": batch["features"],
        "visual_attention_mask": batch["box_mask"],
        "visual_token_type_ids": batch["box_types"],
    }
    if head != "pretraining":
        return given | {"labels": batch["labels"]}
    words = batch["word_labels"].where(batch["word_labels"] >= 0, -100)
    longer = nn.functional.pad(words, (0, batch["features"].shape[1]), value=-100)
    return given | {"labels": longer, "sentence_image_labels": batch["labels"]}


def turn_about(tasks: Mapping[str, Callable[[], Any]], args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each task: one to warm up, then round after round."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(args.rounds + 1):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    args = parse()
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    result |= {"device": args.device, "layers": args.layers, "batch": args.batch, "dtype": args.dtype}
    result["step"] = {name: step_case(args, name) for name in args.cases}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
