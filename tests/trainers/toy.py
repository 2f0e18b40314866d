"""A loop over a model of six numbers: what the loop itself does, a hundred times a second."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.run_folder import RunFolder
from trainers.distributed import World
from trainers.loop import Loop
from trainers.objective import Objective, ObjectiveOutput

UPDATES = 6
SETTINGS: dict[str, Any] = {
    "max_epochs": 2,
    "max_steps": None,
    "batch_size": 2,
    "gradient_accumulation": 1,
    "num_workers": 0,
    "clip_norm": 1.0,
    "dtype": "float32",
    "sharding": "none",
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
    "best_metric": "score",
    "early_stop_patience": None,
    "max_skipped_updates": 3,
    "stall_warning_s": 0.0,
    "log_every": 4,
    "tensorboard": False,
    "seed": 7,
}


class ToyItems:
    """Six vectors of three numbers; some can be spoilt."""

    def __init__(self, number: int = UPDATES) -> None:
        self.values: list[Any] = [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(number)]
        self.order = list(range(number))

    def set_epoch(self, epoch: int) -> None:
        random.Random(epoch).shuffle(order := sorted(self.order))
        self.order = order

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        value = self.values[self.order[index]]
        return value() if callable(value) else value


class Squares(Objective):
    """The sum of squares, after dropout: a loss that depends on the state of torch's generator."""

    def count(self, batch: dict, step: int) -> int:
        return len(batch["x"])

    def names(self, batch: dict) -> list[str]:
        return [f"item {value:.3f}" for value in batch["x"][:, 0].tolist()]

    def __call__(self, model: nn.Module, batch: dict, step: int) -> ObjectiveOutput:
        loss = nn.functional.dropout(model(batch["x"]), 0.3).square().sum()
        return ObjectiveOutput(loss, {"loss": (loss.detach(), len(batch["x"]))})


def collate(items: list[Tensor]) -> Mapping[str, Any]:
    return {"x": torch.stack(items)}


def toy(
    folder: Path,
    items: Any = None,
    objective: Objective | None = None,
    scores: Callable[[], Any] | None = None,
    **sets: Any,
) -> Loop:
    """The loop of a run in `folder`; its model is what its last checkpoint holds."""
    torch.manual_seed(1)
    model = nn.Linear(3, 2)
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def score() -> dict[str, float]:
        return {"score": -float(model.weight.detach().abs().sum())}

    def write(into: Path, weights: Mapping[str, Tensor]) -> None:
        save_file(dict(weights), into / "model.safetensors")

    loop = Loop(
        model,
        items or ToyItems(),
        objective or Squares(),
        collate=collate,
        optimizer=lambda module: torch.optim.AdamW(module.parameters(), lr=0.1),
        rate=lambda step, total: 0.1 * (1 - step / total),
        write_model=write,
        validate=scores or score,
        folder=run,
        world=World(),
        **SETTINGS | sets,
    )
    last = loop.checkpoints.find("last")
    if last is not None:
        model.load_state_dict(load_file(last / "model.safetensors"))
    return loop


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run left: files, links, history without its clocks, and weights."""
    root = folder / "checkpoints"
    lines = (folder / "history.jsonl").read_text().splitlines()
    return {
        "names": sorted(path.name for path in root.iterdir()),
        "links": {name: (root / name).resolve().name for name in ("best", "last")},
        "history": [_without_clocks(line) for line in lines],
        "weights": {name: value.tolist() for name, value in load_file(root / "last" / "model.safetensors").items()},
        "best": {name: value.tolist() for name, value in load_file(root / "best" / "model.safetensors").items()},
    }


def _without_clocks(line: str) -> dict[str, Any]:
    entry = json.loads(line)
    return {name: value for name, value in entry.items() if name not in ("seconds_per_step", "backward_s")}
