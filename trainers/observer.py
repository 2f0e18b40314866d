"""What looks on while a run trains: progress, health checks, the hooks of a framework."""

from collections.abc import Mapping
from typing import Any, Protocol


class Position(Protocol):
    """Where a run is, as `trainers.loop.Loop` tells it."""

    max_steps: int

    @property
    def step(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Observer:
    """Told of each stage of a run; does nothing by itself. What `state` returns is saved and given to `resume`."""

    def run_begins(self, loop: Position) -> None: ...

    def epoch_begins(self, loop: Position) -> None: ...

    def update_begins(self, loop: Position) -> None: ...

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        """`logs`: what the update logged; `loop.step` does not count it yet."""

    def paused(self) -> None:
        """Something else than updates begins, such as a validation; `resumed` when it ends."""

    def resumed(self) -> None: ...

    def validated(self, loop: Position, scores: Mapping[str, float]) -> None:
        """The model as it is was scored; `scores` as the history has them, such as "val/CIDEr"."""

    def epoch_ended(self, loop: Position) -> None: ...

    def run_ended(self, loop: Position) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def resume(self, state: dict[str, Any]) -> None: ...
