"""Requests that wait, and what goes into a pass together."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import pytest

from serving.batching import Batcher, Full

WAIT = 20


@dataclass(frozen=True)
class Word:
    text: str
    kind: str = "a"
    size: int = 1


class Slow:
    """Doubles words; a pass waits until `go` is set."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, asked: Sequence[Word]) -> list[str]:
        self.passes.append([ask.text for ask in asked])
        self.begun.set()
        assert self.go.wait(WAIT)
        if any(ask.text == "bad" for ask in asked):
            raise ValueError("bad word")
        return [2 * ask.text for ask in asked]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def batcher(slow: Slow) -> Iterator[Batcher]:
    batcher = Batcher(slow, size=3, limit=4)
    yield batcher
    slow.go.set()
    batcher.close()


def test_what_waits_is_answered_together_as_far_as_it_fits(slow: Slow, batcher: Batcher) -> None:
    first = batcher.submit(Word("x"), WAIT)
    assert slow.begun.wait(WAIT)
    waiting = [batcher.submit(word, WAIT) for word in (Word("a"), Word("b", "other"), Word("c", size=2), Word("d"))]
    slow.go.set()
    assert first.result(WAIT) == "xx"
    assert [one.result(WAIT) for one in waiting] == ["aa", "bb", "cc", "dd"]
    assert slow.passes == [["x"], ["a", "c"], ["b"], ["d"]]
    assert (batcher.passes, batcher.answered, batcher.waiting) == (4, 5, 0)


def test_a_full_queue_refuses_and_takes_again_what_others_left(slow: Slow, batcher: Batcher) -> None:
    batcher.submit(Word("x"), WAIT)
    assert slow.begun.wait(WAIT)
    waiting = [batcher.submit(Word(str(number)), WAIT) for number in range(4)]
    with pytest.raises(Full, match="4 requests are waiting"):
        batcher.submit(Word("more"), WAIT)
    assert waiting[1].cancel()
    last = batcher.submit(Word("more"), WAIT)
    slow.go.set()
    assert last.result(WAIT) == "moremore"
    assert ["1"] not in slow.passes
    assert [word for words in slow.passes for word in words] == ["x", "0", "2", "3", "more"]


def test_who_has_waited_too_long_is_not_answered(slow: Slow, batcher: Batcher) -> None:
    batcher.submit(Word("x"), WAIT)
    assert slow.begun.wait(WAIT)
    late, other = batcher.submit(Word("late"), -1), batcher.submit(Word("y"), WAIT)
    slow.go.set()
    assert other.result(WAIT) == "yy"
    with pytest.raises(CancelledError):
        late.result(WAIT)
    assert slow.passes == [["x"], ["y"]]


def test_one_bad_request_fails_alone(slow: Slow, batcher: Batcher) -> None:
    batcher.submit(Word("x"), WAIT)
    assert slow.begun.wait(WAIT)
    good, bad = batcher.submit(Word("good"), WAIT), batcher.submit(Word("bad"), WAIT)
    slow.go.set()
    assert good.result(WAIT) == "goodgood"
    with pytest.raises(ValueError, match="bad word"):
        bad.result(WAIT)


def test_a_request_larger_than_a_pass_goes_alone(slow: Slow, batcher: Batcher) -> None:
    slow.go.set()
    assert batcher.submit(Word("w", size=9), WAIT).result(WAIT) == "ww"


def test_closing_cancels_what_waits(slow: Slow) -> None:
    batcher = Batcher(slow, size=1, limit=9)
    running = batcher.submit(Word("x"), WAIT)
    assert slow.begun.wait(WAIT)
    waiting = batcher.submit(Word("y"), WAIT)
    threading.Timer(0.1, slow.go.set).start()
    batcher.close()
    assert running.result(WAIT) == "xx"
    assert waiting.cancelled()
    with pytest.raises(Full):
        batcher.submit(Word("z"), WAIT)
