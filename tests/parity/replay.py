"""The random numbers that an original drew, given again in order."""

from collections.abc import Mapping, Sequence
from typing import Any


class Replay:
    """Recorded draws: `["random", u]`, `["randint", a, b, value]`, `["choice", token]`.

    Asking for another kind than was recorded, with other limits or too often fails; `done` says that none is left.
    """

    def __init__(self, draws: Sequence[Sequence[Any]], numbers: Mapping[str, int]) -> None:
        self._draws = list(draws)
        self._numbers = numbers
        self._next = 0

    def random(self) -> float:
        return self._take("random")[0]

    def randint(self, a: int, b: int) -> int:
        first, last, value = self._take("randint")
        assert (first, last) == (a, b)
        return value

    def randrange(self, stop: int, /) -> int:
        assert stop == len(self._numbers)
        return self._numbers[self._take("choice")[0]]

    @property
    def done(self) -> bool:
        return self._next == len(self._draws)

    def _take(self, kind: str) -> Sequence[Any]:
        recorded, *values = self._draws[self._next]
        assert recorded == kind
        self._next += 1
        return values
