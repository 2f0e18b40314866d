"""Learning-rate schedules as pure functions of the update."""

import math


def learning_rate(step: int, *, total: int, lr: float, lr_end: float, warmup_proportion: float, schedule: str) -> float:
    """The rate of update `step` (from 0) out of `total`.

    It rises linearly from 0 over the first `warmup_proportion` of all updates, then falls from `lr` to `lr_end` along a
    line ("linear" and "polynomial", whose power is 1 as in OFA's recipes) or half a cosine ("cosine").
    """
    warmup = int(total * warmup_proportion)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "cosine":
        return lr_end + (lr - lr_end) * 0.5 * (1 + math.cos(math.pi * progress))
    return lr_end + (lr - lr_end) * (1 - progress)
