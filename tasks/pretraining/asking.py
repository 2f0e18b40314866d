"""A pre-trained network on a split: its losses, what it gets right, and what it says of each example."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from tasks.predicting import evaluating
from tasks.pretraining.models import Guess, Pretrainer
from trainers.batches import to_device
from trainers.update import AUTOCAST

Sums = dict[str, list[float]]
"""Loss -> its sum, what it is divided by, right predictions, predictions."""


@dataclass
class Found:
    """What a pass over a split found; `guesses` are empty where they were not asked for."""

    sums: Sums = field(default_factory=dict)
    guesses: list[Guess] = field(default_factory=list)

    @classmethod
    def merged(cls, parts: Sequence["Found"]) -> "Found":
        """Of all ranks, in their order."""
        whole = cls()
        for part in parts:
            whole.guesses += part.guesses
            for name, values in part.sums.items():
                former = whole.sums.get(name, [0.0] * len(values))
                whole.sums[name] = [a + b for a, b in zip(former, values, strict=True)]
        return whole

    def scores(self) -> dict[str, float]:
        """`loss`, `likelihood` (exp(-loss)), `loss/NAME` of each loss, and NAME, the share that is right, where a loss
        names something and was asked for."""
        losses = {name: total / max(1.0, count) for name, (total, count, _, _) in self.sums.items()}
        whole = sum(losses.values())
        scores = {"loss": whole, "likelihood": math.exp(-whole)}
        scores |= {name: right / asked for name, (_, _, right, asked) in self.sums.items() if asked}
        return scores | {f"loss/{name}": value for name, value in losses.items()}


@torch.no_grad()
def ask(
    pretrainer: Pretrainer,
    items: Subset[Any],
    *,
    batch_size: int,
    guesses: bool,
    dtype: str = "float32",
    num_workers: int = 0,
    progress: bool = True,
) -> Found:
    """Losses over items of `PretrainingItems` in evaluation mode, where the network is; `guesses`: each one's own, too.

    Raises ValueError for an example that cannot be made.
    """

    def checked(batch: list[Any]) -> Any:
        broken = next((item for item in batch if isinstance(item, Exception)), None)
        return broken if broken is not None else pretrainer.collate(batch)

    loader: Any = DataLoader(items, batch_size, collate_fn=checked, num_workers=num_workers)
    device = next(pretrainer.model.parameters()).device
    kind = AUTOCAST[dtype]
    found: list[Found] = []
    with evaluating(pretrainer.model), tqdm(total=len(items), desc="predicting", delay=2, disable=not progress) as bar:
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            there = to_device(batch, device)
            mixed = torch.autocast(device.type, dtype=kind) if kind is not None else contextlib.nullcontext()
            with mixed:
                sums = _sums(pretrainer.parts(pretrainer.model, there), batch["losses"])
                found.append(Found(sums, pretrainer.guess(pretrainer.model, there) if guesses else []))
            bar.update(len(batch["rows"]))
    return Found.merged(found)


def _sums(parts: Mapping[str, Any], losses: Sequence[str]) -> Sums:
    return {
        name: [float(value) if value is not None else 0.0 for value in (part.total, part.count, part.right, part.asked)]
        for name, part in parts.items()
        if name in losses
    }
