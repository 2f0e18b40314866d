"""Models, batches and short runs for `benchmarks.gpu_checks`: random weights and words, no file of data."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu import Machine
from data.run_folder import RunFolder
from models.ofa import OFAConfig, OFAModel, preset_config
from preprocessors.collate import collate
from trainers.cross_entropy import CrossEntropy
from trainers.distributed import World
from trainers.loop import Loop
from trainers.objective import Objective, TrainingModule
from trainers.observer import Observer, Position
from trainers.ofa_units import shard_units
from trainers.sharding import shard

Wrap = Literal["plain", "ddp", "fsdp"]
PAD = 1
NANO: dict[str, Any] = {
    "vocab_size": 300,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "resnet_type": "resnet18",
    "image_bucket_size": 8,
}
STEADY: dict[str, Any] = {"dropout": 0.0, "encoder_drop_path_rate": 0.0, "decoder_drop_path_rate": 0.0}


def model_of(machine: Machine, preset: str, seed: int = 0) -> OFAModel:
    """A model on the CPU without anything random in training; a nano one on a machine without a GPU."""
    torch.manual_seed(seed)
    model = OFAModel(OFAConfig(**NANO, **STEADY) if machine.small else preset_config(preset, **STEADY))
    with torch.no_grad():  # tables of biases start from zeros, which would hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


class Captions:
    """Items of random pictures, prompts and captions; all prompts have one length, or `uneven` ones."""

    def __init__(self, machine: Machine, number: int, vocabulary: int, *, uneven: bool = False, side: int = 0) -> None:
        generator = torch.Generator().manual_seed(3)
        side = side or (32 if machine.small else 224)

        def words(length: int) -> Tensor:
            return torch.randint(4, vocabulary, (length,), generator=generator)

        self.items = [
            {
                "patch_image": torch.randn(3, side, side, generator=generator),
                "patch_mask": True,
                "prompts": [torch.cat([torch.tensor([0]), words(12 + (i % 3 if uneven else 0)), torch.tensor([2])])],
                "captions": [(0, torch.cat([words(8 + i % 4), torch.tensor([2])]))],
                "starts": [0],
                "requests": [{"image_id": str(i), "style": "Sweet", "references": ["w5 w6 w7", "w8 w9"]}],
            }
            for i in range(number)
        ]

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def batch(self, rows: int) -> dict[str, Any]:
        return collate(self.items[:rows])


def step_1() -> Objective:
    return CrossEntropy(pad=PAD, label_smoothing=0.1)


def step_2() -> Objective:
    from benchmarks.scst_step import make_objective

    objective: Objective = make_objective("multinomial")
    return objective


class Kept(Observer):
    """What every update logged."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        self.logs.append(logs)


class OneRank(Loop):
    """A run of one process as the wrappers of many see it; `wrap` needs a process group of one."""

    def __init__(self, *args: Any, wrap: Wrap, **settings: Any) -> None:
        self.wrap = wrap
        super().__init__(*args, **settings)

    def _module(self, sharding: str, units: Any) -> None:
        if self.wrap == "plain":
            super()._module(sharding, units)
            return
        self.inner = TrainingModule(self.model, self.objective)
        self.module: nn.Module = self.inner
        if self.wrap == "fsdp":
            shard(self.inner, self.world, units)
            return
        self.model.to(self.world.device)
        index = self.world.device.index
        self.module = DistributedDataParallel(self.inner, device_ids=None if index is None else [index])


def run_of(
    machine: Machine,
    folder: Path,
    model: OFAModel,
    objective: Objective,
    *,
    items: Captions,
    steps: int,
    wrap: Wrap = "plain",
    dtype: str = "float32",
    batch_size: int = 4,
    accumulation: int = 1,
    lr: float = 1e-4,
    stop_at: int | None = None,
) -> tuple[OneRank, Kept]:
    """A run of `steps` updates that resumes what the folder holds, and is trained; `stop_at`: no further than that."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept()
    last = RunFolder(folder).checkpoints / "last"
    if last.exists():
        model.load_state_dict(load_file(last / "model.safetensors"), strict=False)
    loop = OneRank(
        model,
        items,
        objective,
        wrap=wrap,
        collate=collate,
        # A large epsilon makes an update proportional to its gradient, so that rounding is not blown up to a full step.
        optimizer=lambda module: torch.optim.AdamW(module.parameters(), lr=lr, eps=1e-3),
        rate=lambda step, total: lr,
        write_model=write,
        validate=None,
        folder=RunFolder(folder),
        world=World(device=machine.device),
        observers=[kept],
        shard_units=shard_units(model),
        max_epochs=1000,
        max_steps=stop_at or steps,
        batch_size=batch_size,
        gradient_accumulation=accumulation,
        num_workers=0,
        clip_norm=1.0,
        dtype=dtype,
        sharding="none",
        checkpoint_every=10**6,
        keep_checkpoints=1,
        best_metric="none",
        early_stop_patience=None,
        max_skipped_updates=3,
        stall_warning_s=0.0,
        log_every=10**6,
        tensorboard=False,
        seed=5,
    )
    loop.run(resume=True)
    return loop, kept


def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Weights without their second names: those that are tied are one tensor."""
    own = {name: value.cpu().contiguous() for name, value in weights.items() if not name.startswith(_TIED)}
    save_file(own, folder / "model.safetensors")


_TIED = ("decoder.embed_tokens.", "decoder.output_projection.")


@contextlib.contextmanager
def group_of_one(machine: Machine) -> Iterator[None]:
    """A process group of this process alone."""
    store = torch.distributed.HashStore()
    on_gpu = machine.device.type == "cuda"
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=0,
        world_size=1,
        device_id=machine.device if on_gpu else None,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def on(machine: Machine, batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to(machine.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
