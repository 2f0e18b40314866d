"""Memory and work of an update of each size of OFA: the tables of docs/sizes.md.

    python -m benchmarks.sizes                                                # computed, a minute
    python -m benchmarks.sizes --measure tiny --step 1 --images 4             # measured here, on a CPU

Computed: the network itself runs forwards and backwards on tensors that have shapes and no contents, so nothing of its
size is allocated; what autograd keeps for the backward pass is added up, and operations are counted. It is what a CPU
does: a GPU's attention keeps less. Two batches tell what each image adds from what does not depend on their number.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scst_step import REFERENCES, make_objective
from models.ofa import OFAConfig, OFAModel, preset_config
from models.ofa.configuration import PRESETS
from preprocessors.collate import Asked
from trainers.cross_entropy import CrossEntropy, encode
from trainers.policy_gradient import drawn_log_probs

SIDE, PROMPT, WORDS, CANDIDATES, DRAWN = 480, 15, 20, 5, 16
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
#: AdamW: a weight, its gradient and two moments, all float32 whatever the autocast type is.
BYTES_TRAINED, BYTES_FROZEN = 16, 4
MILLION = 1e6


@dataclass(frozen=True)
class Cost:
    """Of an update.

    Attributes:
        held: bytes of weights, tables, gradients and AdamW's moments.
        kept: bytes that are kept for the backward pass, however many images there are.
        kept_each: bytes that each image adds.
        flops: floating-point operations that each image adds, forwards and backwards.
    """

    held: int
    kept: int
    kept_each: int
    flops: int

    def bytes_of(self, images: int) -> int:
        return self.held + self.kept + images * self.kept_each


def small_config() -> OFAConfig:
    """The network of train_conf.json, with a vocabulary of its full size."""
    content = json.loads((Path(__file__).parent.parent / "train_conf.json").read_text(encoding="utf-8"))
    return OFAConfig(**content["model"]["config"], vocab_size=content["model"]["vocabulary_size"])


def blank(config: OFAConfig) -> OFAModel:
    """A model without contents, for use within the FakeTensorMode that is active."""
    with torch.device("meta"):
        model = OFAModel(config)
    return model


def emptied(model: nn.Module) -> nn.Module:
    """`model`, built on the meta device, with tensors of the mode that is active; tied ones stay one."""
    fresh = {one: nn.Parameter(torch.empty(one.shape), one.requires_grad) for one in model.parameters()}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = fresh[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return model


def batch_of(images: int, side: int = SIDE) -> dict[str, Any]:
    """What the collate of a run gives for so many images, with one prompt and one caption each."""
    rows, target = torch.arange(images), torch.full((images, WORDS), 5)
    requests = [{"image_id": str(i), "style": "Factual", "references": REFERENCES} for i in range(images)]
    return {
        "patch_images": torch.zeros(images, 3, side, side),
        "patch_masks": torch.ones(images, dtype=torch.bool),
        "padded": False,
        "image_index": rows,
        "input_ids": torch.full((images, PROMPT), 5),
        "encoder_index": rows,
        "decoder_input_ids": target,
        "even": True,
        "target": target,
        "target_index": torch.arange(images * WORDS),
        "requests": requests,
        "asked": Asked.of(range(images), [0] * images, requests),
    }


def step_1(model: Any, batch: dict[str, Any]) -> Tensor:
    return CrossEntropy(pad=1, label_smoothing=0.1)(model, batch, 0).loss_sum


def step_2(model: Any, batch: dict[str, Any]) -> Tensor:
    """The loss of step 2 on candidates that are drawn already."""
    rows = len(batch["patch_images"]) * CANDIDATES
    tokens = torch.full((rows, DRAWN), 5)
    logits = candidate_logits(model, encode(model, batch), tokens)
    first = torch.arange(rows) * DRAWN
    banned = torch.ones((rows * DRAWN, 2), dtype=torch.long)
    drawing: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "likely": first}
    return drawn_log_probs(logits, tokens.flatten(), banned, **drawing).sum()


def candidate_logits(model: Any, encoded: Any, tokens: Tensor) -> Tensor:
    """As in `trainers.scst`, which looks for padding: there is none here, and no contents to look at."""
    return model.decoder.output_projection(model.decode(encoded, tokens, None).flatten(0, 1))


def sampling_flops(model: Any, images: int, side: int) -> int:
    """Operations of writing the candidates: token by token or all at once, they are as many."""
    encoded = encode(model, batch_of(images, side))
    with FlopCounterMode(display=False) as counter:
        candidate_logits(model, encoded, torch.full((images * CANDIDATES, DRAWN), 5))
    return counter.get_total_flops()


STEPS: dict[int, Callable[[Any, dict[str, Any]], Tensor]] = {1: step_1, 2: step_2}


def kept_and_flops(model: nn.Module, loss_of: Callable[[], Tensor], dtype: torch.dtype | None) -> tuple[int, int]:
    """Bytes that the backward pass of a loss reads beside the weights, and operations of both passes."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    counter = FlopCounterMode(display=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with counter:
        with hooks, torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = loss_of()
        loss.backward()
    model.zero_grad(set_to_none=True)
    return sum(storage.nbytes() for storage in kept.values()), counter.get_total_flops()


def held_bytes(model: nn.Module) -> int:
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    frozen = sum(one.numel() for one in model.parameters() if not one.requires_grad)
    tables = sum(one.numel() * one.element_size() for one in model.buffers())
    return BYTES_TRAINED * trained + BYTES_FROZEN * frozen + tables


def cost(config: OFAConfig, step: int, dtype: str, side: int = SIDE) -> Cost:
    """What an update of a configuration takes, without any of it being allocated."""
    model = blank(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        emptied(model).train(step == 1)
        one, two = (
            kept_and_flops(model, partial(STEPS[step], model, batch_of(images, side)), DTYPES[dtype])
            for images in (1, 2)
        )
        drawing = sampling_flops(model, 2, side) - sampling_flops(model, 1, side) if step == 2 else 0
    each = two[0] - one[0]
    return Cost(held_bytes(model), one[0] - each, each, two[1] - one[1] + drawing)


def measured(size: str, step: int, dtype: str, images: int, updates: int, side: int = SIDE) -> dict[str, Any]:
    """Seconds of an update and the peak of the process's memory, on the CPU."""
    config = small_config() if size == "default" else preset_config(size)
    side = side_of(config, side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = OFAModel(config)
    model.encoder.embed_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-5)
    batch, seconds = batch_of(images, side), []
    batch["patch_images"] = torch.randn_like(batch["patch_images"]).contiguous(memory_format=torch.channels_last)
    objective = make_objective("multinomial") if step == 2 else CrossEntropy(pad=1, label_smoothing=0.1)
    objective.set_mode(model)
    for _ in range(updates + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=DTYPES[dtype] or torch.bfloat16, enabled=DTYPES[dtype] is not None):
            prepared = objective.prepare(model, batch)
            loss = objective(model, prepared, 0).loss_sum / images
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    objective.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "size": size,
        "step": step,
        "dtype": dtype,
        "images": images,
        "seconds": round(statistics.median(seconds[1:]), 2),
        "peak_mb": round((peak - before) * 1024 / MILLION),
        "computed_mb": round(cost(config, step, dtype, side).bytes_of(images) / MILLION),
    }


def side_of(config: OFAConfig, side: int = SIDE) -> int:
    """Pixels of a side: `side`, or the most that the model has positions for."""
    return min(side, 16 * config.image_bucket_size)


def configurations() -> dict[str, OFAConfig]:
    return {"default": small_config()} | {name: preset_config(name) for name in PRESETS}


def weights_table(configs: dict[str, OFAConfig]) -> list[str]:
    """Parameters of each size, and what its weights and an optimizer's numbers take."""
    lines = ["| size | parameters | weights, float32 | weights, bfloat16 | with gradients and AdamW |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, config in configs.items():
        model = blank(config)
        count = sum(one.numel() for one in model.parameters())
        gigabytes = " | ".join(f"{number / 1e9:.2f} GB" for number in (4 * count, 2 * count, held_bytes(model)))
        lines.append(f"| {name} | {count / MILLION:.1f} M | {gigabytes} |")
    return lines


def update_table(configs: dict[str, OFAConfig], side: int = SIDE) -> list[str]:
    """What an update keeps and computes, of each size, step and autocast type."""
    lines = ["| size | step | float32: fixed + each image | bfloat16: fixed + each image | operations an image |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, config in configs.items():
        for step in STEPS:
            found = {dtype: cost(config, step, dtype, side_of(config, side)) for dtype in DTYPES}
            cells = [f"{one.kept / 1e9:.2f} + {one.kept_each / 1e9:.2f} GB" for one in found.values()]
            flops = found["float32"].flops / 1e9
            lines.append(f"| {name} | {step} | {' | '.join(cells)} | {flops:.4g} G |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("default", *PRESETS))
    parser.add_argument("--step", type=int, choices=tuple(STEPS), default=1)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--updates", type=int, default=2, help="timed ones, after one to warm up")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(args.measure, args.step, args.dtype, args.images, args.updates, args.side)))
    else:
        configs = configurations()
        print("\n".join([*weights_table(configs), "", *update_table(configs, args.side)]))


if __name__ == "__main__":
    main()
