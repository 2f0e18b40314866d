"""Learning-rate schedules by name: pure functions of progress, the share of all updates that is done.

All return the factor of the peak rate. `warmup` is the share of the updates over which the factor rises from 0; the
first update then has rate 0. Progress may exceed 1 when training goes on longer than was said.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from trainers import trar_schedule
from trainers.schedule import learning_rate

#: From progress to factor.
Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    return 1.0


def warmup_constant(progress: float, *, warmup: float) -> float:
    return _rise(progress, warmup) if progress < warmup else 1.0


def warmup_linear(progress: float, *, warmup: float, floor: float = 0.0) -> float:
    """Down a line from 1 at the end of the warm-up to `floor` at progress 1, where it stays.

    BertAdam's "no warm-up" of -1 starts at half the rate: the line then comes from progress -1.
    """
    if progress < warmup:
        return _rise(progress, warmup)
    return floor + (1 - floor) * max((progress - 1) / (warmup - 1), 0.0)


def warmup_linear_yx(progress: float, *, warmup: float, floor: float = 0.0) -> float:
    """CATT's line with a floor, which the published code leaves at progress 1, to go on below it."""
    if progress < warmup:
        return _rise(progress, warmup)
    return 1 - (1 - floor) * (progress - warmup) / (1 - warmup)


def warmup_cosine(progress: float, *, warmup: float, floor: float = 0.0) -> float:
    """Down half a cosine from 1 at the end of the warm-up to `floor` at progress 1, where it stays."""
    if progress < warmup:
        return _rise(progress, warmup)
    share = min(1.0, (progress - warmup) / (1 - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))


def warmup_stair(progress: float, *, warmup: float, epochs: float, every: float, factor: float) -> float:
    """1 after the warm-up, times `factor` after every `every` of the training's `epochs`."""
    return warmup_constant(progress, warmup=warmup) * factor ** math.floor(_epoch(progress, epochs) / every)


def vqa_constant(
    progress: float, *, warmup: float, epochs: float, drops: Sequence[int] = (4, 6), factor: float = 0.1
) -> float:
    """1 after the warm-up, times `factor` from each epoch of `drops` on, counted from 0: by default the 5th and 7th."""
    done = sum(_epoch(progress, epochs) >= drop for drop in drops)
    return warmup_constant(progress, warmup=warmup) * factor**done


#: Schedules, and what each needs besides `warmup`.
SCHEDULES: Mapping[str, tuple[Callable[..., float], tuple[str, ...]]] = MappingProxyType(
    {
        "constant": (constant, ()),
        "warmup_constant": (warmup_constant, ("warmup",)),
        "warmup_linear": (warmup_linear, ("warmup", "floor")),
        "warmup_linear_yx": (warmup_linear_yx, ("warmup", "floor")),
        "warmup_cosine": (warmup_cosine, ("warmup", "floor")),
        "warmup_stair": (warmup_stair, ("warmup", "epochs", "every", "factor")),
        "vqa_constant": (vqa_constant, ("warmup", "epochs", "drops", "factor")),
    }
)
_HAIR = 1e-6  # of an update: a share times the updates rounds down
_DEFAULTS: Mapping[str, Any] = MappingProxyType({"floor": 0.0, "every": 2.0, "factor": 0.1, "drops": (4, 6)})


def make_schedule(name: str, *, warmup: float = 0.0, epochs: float | None = None, **options: Any) -> Schedule:
    """The schedule called `name`, as a function of progress.

    Args:
        warmup: share of the updates, 0 (or BertAdam's -1) to under 1.
        epochs: length of the training, for the schedules that count epochs.
        options: `floor` (share of the peak rate), `every` (epochs), `factor` and `drops` (epochs): what a schedule does
            not have is ignored, so that the settings need not change with the name.

    Raises:
        ValueError: the name is unknown, or a setting is missing or out of its range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup < 1 and warmup != -1:
        raise ValueError(f"schedule {name}: warmup is {warmup}; it is a share of the updates, from 0 to under 1")
    unknown = options.keys() - _DEFAULTS.keys()
    if unknown:
        raise ValueError(f"schedules have no option {', '.join(sorted(unknown))}: they are {', '.join(_DEFAULTS)}")
    function, wanted = SCHEDULES[name]
    settings: dict[str, Any] = {"warmup": warmup, "epochs": epochs} | dict(_DEFAULTS) | options
    if "epochs" in wanted and not epochs:
        raise ValueError(f"schedule {name} counts epochs: say how many the training has")
    if "every" in wanted and settings["every"] <= 0:
        raise ValueError(f"schedule {name}: every is {settings['every']} epochs; it must be more than 0")
    return partial(function, **{option: settings[option] for option in wanted})


def learning_rate_of(
    name: str,
    *,
    lr: float,
    lr_end: float,
    warmup_proportion: float,
    epochs: float,
    every: float = 2.0,
    factor: float = 0.1,
    drops: Sequence[int] = (4, 6),
    warmup_epochs: int = 3,
    epoch_updates: float = 1.0,
) -> Callable[[int, int], float]:
    """(update from 0, updates of the run) -> learning rate, of a schedule of `SCHEDULES`, of `trainers.schedule`, or
    "trar" of `trainers.trar_schedule`, which alone needs `warmup_epochs` and `epoch_updates`: samples by samples of an
    update, a broken number.

    Those of `SCHEDULES` begin at rate 0 as the originals do, the others one step above it; a floor is `lr_end`.
    Raises ValueError as `make_schedule`.
    """
    if name == "trar":
        return lambda step, total: trar_schedule.learning_rate(
            step + 1,
            epoch=step // max(1, int(epoch_updates)),
            lr=lr,
            samples=epoch_updates,
            batch_size=1,
            warmup_epochs=warmup_epochs,
            decay_epochs=tuple(drops),
            decay=factor,
        )
    if name not in SCHEDULES:
        return lambda step, total: learning_rate(
            step, total=total, lr=lr, lr_end=lr_end, warmup_proportion=warmup_proportion, schedule=name
        )
    options = {"floor": lr_end / lr, "every": every, "factor": factor, "drops": tuple(drops)}
    schedule = make_schedule(name, warmup=warmup_proportion, epochs=epochs, **options)
    return lambda step, total: lr * schedule(step / total)


def rate_after(
    warmup_steps: int, of_share: Callable[[float], Callable[[int, int], float]]
) -> Callable[[int, int], float]:
    """(update from 0, updates of the run) -> learning rate, which rises for so many updates, however long the run is.

    Args:
        of_share: the rate, as of `learning_rate_of`, of a warm-up that is this share of a run.
    """

    def rate(step: int, total: int) -> float:
        total = max(total, warmup_steps + 1)  # a shorter run ends on the way up
        return of_share((warmup_steps + _HAIR) / total)(step, total)

    return rate


def phased_rate(phases: Sequence[tuple[int, Callable[[int, int], float]]]) -> Callable[[int, int], float]:
    """(update from 0, updates of the run) -> learning rate, of phases that each begin their own schedule anew.

    Args:
        phases: (its updates, its rate as of `learning_rate_of`), in order. A run that is cut short is not squeezed: a
            phase is where it would have been. What comes after the last one has the last rate of it.
    """

    def rate(step: int, total: int) -> float:
        for updates, of_phase in phases:
            if step < updates:
                return of_phase(step, updates)
            step -= updates
        updates, of_phase = phases[-1]
        return of_phase(updates - 1, updates)

    return rate


def _rise(progress: float, warmup: float) -> float:
    return progress / warmup


def _epoch(progress: float, epochs: float) -> float:
    """The epoch, from 0, that an update is in; a hair above, for 1/3 of 6 epochs is in the third."""
    return progress * epochs + 1e-9
