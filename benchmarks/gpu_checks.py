"""The checks of `benchmarks.gpu`. What must be equal is compared with the same model on the CPU in float32."""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import gpu_runs as runs
from benchmarks.gpu import Check, Machine, Row
from models.ofa import OFAModel, beams, generation
from models.ofa.generation import beam_search, sample_encoded
from trainers.cross_entropy import encode, token_losses
from trainers.policy_gradient import token_log_probs
from trainers.scst import candidate_logits
from trainers.update import AUTOCAST

#: Greatest difference of logits from float32 on the CPU, as a share of their standard deviation.
LOGITS = {"float32": 2e-3, "bfloat16": 0.15, "float16": 0.03}
SEARCH: dict[str, Any] = {"beam_size": 5, "max_len_b": 16, "min_len": 1, "no_repeat_ngram_size": 3}


def dtypes(machine: Machine) -> list[str]:
    """What is trained and decoded in: float16 on a GPU alone."""
    return [dtype for dtype in LOGITS if dtype != "float16" or not machine.small]


def autocast(machine: Machine, dtype: str) -> torch.autocast:
    kind = AUTOCAST[dtype]
    return torch.autocast(machine.device.type, dtype=kind or torch.bfloat16, enabled=kind is not None)


def exactly() -> None:
    """float32 as the CPU computes it: by default convolutions on a GPU round to 10 bits (TF32)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def away(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference as a share of the norm of what is expected."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


# --- parity ----------------------------------------------------------------------------------------------------------


def parity(machine: Machine) -> Iterator[Row]:
    """Logits of teacher forcing and gradients of the loss."""
    exactly()
    for uneven in (False, True):
        model = runs.model_of(machine, "base").eval()
        batch = runs.Captions(machine, 4, model.config.vocab_size, uneven=uneven).batch(4)
        expected, slopes = logits_and_gradients(machine, model, batch, "float32")
        model.to(machine.device)
        there = runs.on(machine, batch)
        for dtype, limit in LOGITS.items():
            logits, gradients = logits_and_gradients(machine, model, there, dtype)
            worst = float((logits.cpu() - expected).abs().max() / expected.std())
            name = f"{dtype}, {'padded' if uneven else 'unpadded'} prompts"
            yield Row("parity", f"logits, {name}", worst, limit)
            yield Row("parity", f"gradients, {name}", away(gradients, slopes), 2 * limit)
        with torch.no_grad():
            plain, biased = (model(**there | {"padded": padded}).logits for padded in (uneven, True))
        yield Row(
            "parity",
            f"a bias of padding or none, {'padded' if uneven else 'unpadded'}",
            float((plain - biased).abs().max()),
            1e-4,
        )


def logits_and_gradients(machine: Machine, model: OFAModel, batch: dict[str, Any], dtype: str) -> tuple[Tensor, Tensor]:
    model.zero_grad(set_to_none=True)
    with autocast(machine, dtype):  # of float32 none, as the pass on the CPU has it
        logits = model(**batch).logits
    places = batch["target_index"]
    losses, _ = token_losses(logits.flatten(0, 1)[places], batch["target"].flatten()[places], 0.1)
    # As a scaler does: the small ones of float16 would else be zeros.
    (losses.sum() * 1024).backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = [grad.flatten().float().cpu() / 1024 for grad in grads]
    return logits.detach().float(), torch.cat(flat)


# --- training --------------------------------------------------------------------------------------------------------


def step_1(machine: Machine) -> Iterator[Row]:
    yield from training(machine, "step_1", runs.step_1)


def step_2(machine: Machine) -> Iterator[Row]:
    yield from training(machine, "step_2", runs.step_2)


def training(machine: Machine, name: str, objective: Callable[[], Any]) -> Iterator[Row]:
    """Each dtype; DDP and FSDP of one, with accumulation, against the plain run; `found`: how far losses are apart."""
    exactly()
    first: list[float] = []
    for dtype in dtypes(machine):
        losses, note = trained(machine, name, objective, dtype, "plain")
        first = first or losses
        unfit = sum(1 for loss in losses if loss != loss)
        yield Row(name, f"{dtype}: losses that are not finite", unfit, 0.0, note)
        if name == "step_1":
            yield Row(name, f"{dtype}: last loss as a share of the first", losses[-1] / losses[0], 1.0)
    with runs.group_of_one(machine):
        for wrap in ("ddp", "fsdp"):
            losses, note = trained(machine, name, objective, "float32", wrap)
            # Beyond the first update of step 2 a rounding may change a candidate, and with it all that follows.
            pairs = list(zip(losses, first, strict=True))[: 1 if name == "step_2" else None]
            apart = max(abs(a - b) / max(1e-3, abs(b)) for a, b in pairs)
            yield Row(name, f"{wrap} of one: losses away from the plain run's", apart, 2e-3, note)


def trained(
    machine: Machine, name: str, objective: Callable[[], Any], dtype: str, wrap: runs.Wrap
) -> tuple[list[float], str]:
    """Losses of a short run, and what it took."""
    model = runs.model_of(machine, "base")
    items = runs.Captions(machine, 8 if machine.small else 32, model.config.vocab_size)
    reset_peak(machine)
    started = time.perf_counter()
    _, kept = runs.run_of(
        machine,
        machine.scratch / f"{name}-{dtype}-{wrap}",
        model,
        objective(),
        items=items,
        steps=3 if machine.small else 6,
        wrap=wrap,
        dtype=dtype,
        batch_size=2 if machine.small else 8,
        accumulation=2,
    )
    seconds = (time.perf_counter() - started) / len(kept.logs)
    return [logs.get("loss", float("nan")) for logs in kept.logs], f"{seconds:.2f} s an update{peak(machine)}"


def resumption(machine: Machine) -> Iterator[Row]:
    """Four updates, and two and two."""
    exactly()
    for dtype in dtypes(machine):
        weights = []
        for stops in ([4], [2, 4]):
            folder = machine.scratch / f"resumed-{dtype}-{len(stops)}"
            for stop in stops:
                model = runs.model_of(machine, "tiny")
                items = runs.Captions(machine, 16, model.config.vocab_size)
                runs.run_of(
                    machine, folder, model, runs.step_1(), items=items, steps=4, stop_at=stop, dtype=dtype, lr=1e-3
                )
            weights.append(torch.cat([parameter.detach().flatten().float().cpu() for parameter in model.parameters()]))
        start = torch.cat([p.detach().flatten() for p in runs.model_of(machine, "tiny").parameters()])
        # As a share of what was learnt: on a GPU sums of gradients are not bit-equal from run to run.
        apart = float((weights[1] - weights[0]).norm() / (weights[0] - start).norm())
        yield Row("resumption", f"{dtype}: weights away from the whole run's", apart, 1e-2)


# --- generation ------------------------------------------------------------------------------------------------------


def decoding(machine: Machine) -> Iterator[Row]:
    """Captions of the CPU again; and the same however rarely what has ended is looked at."""
    exactly()
    model = runs.model_of(machine, "base").eval()
    items = runs.Captions(machine, 6 if machine.small else 16, model.config.vocab_size, uneven=True)
    few = items.batch(6)
    expected = captions(model, few)
    model.to(machine.device)
    differ = share_of_others(captions(model, runs.on(machine, few)), expected)
    yield Row("generation", "float32: share of captions unlike the CPU's", differ, 0.2)
    there = runs.on(machine, items.batch(16))
    for dtype in dtypes(machine):
        with autocast(machine, dtype):
            if not machine.small:
                captions(model, there)  # to warm up
            synchronise(machine)
            started = time.perf_counter()
            rarely = captions(model, there)
            seconds = time.perf_counter() - started
            always = looking(1, lambda: captions(model, there))
            often = looking(beams.LOOK_EVERY, lambda: captions(model, there))
        note = f"{len(items) / seconds:.1f} captions a second"
        yield Row(
            "generation", f"{dtype}: captions unlike where each step looks", share_of_others(rarely, always), 0.1, note
        )
        yield Row("generation", f"{dtype}: captions unlike where every 4th looks", share_of_others(often, always), 0.1)
    encoded = encode(model, there)
    drawn = sample_encoded(model, encoded, num_samples=5, max_len_b=16)
    with torch.no_grad():
        logits, _, target = candidate_logits(model, encoded, drawn.tokens, drawn.tokens.cpu())
        kept = drawn.tokens.ne(runs.PAD)
        gap = float((token_log_probs(logits, target) - drawn.log_probs[kept]).abs().max())
    yield Row("generation", "log-probabilities of samples read again", gap, 1e-2)


def looking(every: int, task: Callable[[], Any]) -> Any:
    """`task()` while decoding looks at what has ended only so often."""
    former = beams.look_every
    try:
        for module in (beams, generation):
            module.look_every = lambda device: every  # type: ignore[attr-defined]
        return task()
    finally:
        for module in (beams, generation):
            module.look_every = former  # type: ignore[attr-defined]


def captions(model: OFAModel, batch: dict[str, Any]) -> list[list[int]]:
    found = beam_search(
        model,
        batch["input_ids"],
        batch["patch_images"],
        batch["patch_masks"],
        image_index=batch["image_index"],
        padded=batch["padded"],
        **SEARCH,
    )
    return [hypotheses[0].tokens.tolist() if hypotheses else [] for hypotheses in found]


def share_of_others(found: list[list[int]], expected: list[list[int]]) -> float:
    return sum(a != b for a, b in zip(found, expected, strict=True)) / len(expected)


# --- waits and memory ------------------------------------------------------------------------------------------------


def waits(machine: Machine) -> Iterator[Row]:
    """How often the program waits for the device: the limits are those of a search, and of one update."""
    if machine.small:
        yield Row("waits", "not counted", 0.0, note="needs a GPU")
        return
    model = runs.model_of(machine, "tiny").eval()
    model.to(machine.device)
    items = runs.Captions(machine, 16, model.config.vocab_size)
    there = runs.on(machine, items.batch(16))
    captions(model, there)
    number, example = counted(lambda: captions(model, there))
    # At the looks of 17 steps, and for tokens, lengths, ends and scores when all have ended.
    yield Row("waits", "beam search of 17 steps", number, 2 * 17 / beams.LOOK_EVERY + 6, example)
    for name, objective, limit in (("step 1", runs.step_1(), 8), ("step 2", runs.step_2(), 40)):
        loop, _ = runs.run_of(
            machine, machine.scratch / f"waits-{name[-1]}", model, objective, items=items, steps=2, accumulation=2
        )
        batches = [items.batch(4), items.batch(4)]
        number, example = counted(partial(loop.updater, batches, 3, 1e-4, False))
        yield Row("waits", f"an update of {name}, two micro-batches", number, limit, example)


def counted(task: Callable[[], Any]) -> tuple[int, str]:
    """How often `task` waits, by torch's own count, and where it does first."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            task()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [f"{one.filename.rsplit('/', 1)[-1]}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]
    return len(found), ", ".join(sorted(set(found)))[:100]


def memory(machine: Machine) -> Iterator[Row]:
    """The peak of a forward and backward pass at 384 pixels, in MiB, with a bias of padding and without."""
    if machine.small:
        yield Row("memory", "not measured", 0.0, note="needs a GPU")
        return
    found = {}
    for padded in (True, False):
        model = runs.model_of(machine, "base").train()
        model.to(machine.device)
        there = runs.on(machine, runs.Captions(machine, 16, model.config.vocab_size, side=384).batch(16))
        seconds = []
        for _ in range(4):
            reset_peak(machine)
            started = time.perf_counter()
            with autocast(machine, "bfloat16"):
                model(**there | {"padded": padded}).logits.float().logsumexp(-1).sum().backward()
            synchronise(machine)
            seconds.append(time.perf_counter() - started)
        found[padded] = torch.cuda.max_memory_allocated() / 2**20
        name = "with" if padded else "without"
        note = f"{statistics.median(seconds[1:]):.3f} s"
        yield Row("memory", f"MiB at 16 x 384 pixels, {name} the bias of padding", found[padded], note=note)
        del model, there
    yield Row("memory", "without as a share of with", found[False] / found[True], 1.0)
    model = runs.model_of(machine, "base")
    whole = sum(parameter.numel() * 4 for parameter in model.parameters()) / 2**20
    reset_peak(machine)
    before = torch.cuda.memory_allocated() / 2**20
    with runs.group_of_one(machine):
        runs.shard(
            runs.TrainingModule(model, runs.step_1()), runs.World(device=machine.device), runs.shard_units(model)
        )
        most = torch.cuda.max_memory_allocated() / 2**20 - before
    # Of one rank a shard is everything; twice that would be the whole model beside its shards.
    yield Row("memory", "peak of sharding as a share of the model", most / whole, 1.6, f"{whole:.0f} MiB of weights")


def reset_peak(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(machine: Machine) -> str:
    return f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if machine.device.type == "cuda" else ""


def synchronise(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


CHECKS: dict[str, Check] = {
    "parity": parity,
    "generation": decoding,
    "step_1": step_1,
    "step_2": step_2,
    "resumption": resumption,
    "waits": waits,
    "memory": memory,
}
