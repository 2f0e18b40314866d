"""The setting `train.lora`. Imports the standard library only."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = ("rank", "alpha", "targets", "dropout")


def problems(lora: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with it, each with its remedy."""
    rank, targets = lora.get("rank"), lora.get("targets", ["q_proj"])
    for name in lora:
        if name not in NAMES:
            yield f"train.lora.{name} is no setting: there are {', '.join(NAMES)}"
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        yield f"train.lora.rank = {json.dumps(rank)} must be an integer of 1 or more"
    if not _is_number(lora.get("alpha", 1)) or not 0 < lora.get("alpha", 1) < math.inf:
        yield f"train.lora.alpha = {json.dumps(lora['alpha'])} must be a number above 0"
    if not _is_number(lora.get("dropout", 0)) or not 0 <= lora.get("dropout", 0) < 1:
        yield f"train.lora.dropout = {json.dumps(lora['dropout'])} must be a number of 0 or more, below 1"
    if not isinstance(targets, list) or not targets or not all(isinstance(one, str) and one for one in targets):
        yield f'train.lora.targets = {json.dumps(targets)} must be a list of names, such as ["q_proj", "v_proj"]'


def contradictions(train: Any) -> Iterator[str]:
    """What it contradicts in the section `train`, with the remedy."""
    for name in ("tower_lr", "freeze_embeddings"):
        if getattr(train, name):
            yield (
                f"train.{name} contradicts train.lora, which trains adapters and the styles' tokens and nothing else; "
                "remove one of them"
            )
    if train.sharding != "none":
        yield 'train.lora leaves little to divide over ranks, and is not tried so: set train.sharding to "none"'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
