"""The threads that score candidates."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.cider import DocumentFrequency
from rewards.base import Candidate, RewardBatch
from rewards.calculator import RewardCalculator, normalised
from rewards.text import CiderDReward, RougeReward
from tests.conftest import ROOT

WORDS = "a the dog cat man runs sits on grass beach".split()
TABLE = DocumentFrequency.of([["a dog runs <eos>"], ["the cat sits on the beach <eos>"]])
captions = st.lists(st.sampled_from(WORDS), min_size=0, max_size=7).map(" ".join)


def length(batch: RewardBatch) -> list[list[float]]:
    return [[float(len(text.split())) for text in group] for group in batch.tokens]


def words(*texts: str, ended: bool = True) -> list[Candidate]:
    return [Candidate(text, ended) for text in texts]


def test_tokens_end_where_candidates_ended_and_references_always_do():
    seen: list[RewardBatch] = []

    def spy(batch: RewardBatch) -> list[list[float]]:
        seen.append(batch)
        return length(batch)

    groups = [[Candidate("A dog, running!", True), Candidate("a dog", False)], words("", "The cat's nap")]
    with RewardCalculator({"spy": spy}, {"spy": 1.0}, workers=1) as calculator:
        references, soft = [["A dog."], ["Cats"]], [["Dogs!"], []]
        result = calculator.submit(groups, references, ["Sweet", "Dry"], ["1", "2"], soft).result()
    assert seen[0].tokens == [["a dog running <eos>", "a dog"], ["<eos>", "the cat 's nap <eos>"]]
    assert seen[0].references == [["a dog <eos>"], ["cats <eos>"]]
    assert seen[0].soft_references == [["dogs <eos>"], []]
    assert result.total.tolist() == [[4.0, 2.0], [1.0, 5.0]]
    assert result.seconds > 0


def test_total_is_the_weighted_sum_and_each_is_as_it_was_given():
    rewards = {"length": length, "minus": lambda batch: [[-1.0] * len(group) for group in batch.tokens]}
    with RewardCalculator(rewards, {"length": 0.5, "minus": 2.0}, workers=1) as calculator:
        result = calculator.submit([words("a", "a b c")], [["a"]], ["S"], ["1"]).result()
    assert result.each["length"].tolist() == [[2.0, 4.0]]
    assert result.total.tolist() == [[0.5 * 2 - 2, 0.5 * 4 - 2]]


def test_a_reward_of_weight_0_is_reported_and_adds_nothing():
    rewards = {"length": length, "other": length}
    with RewardCalculator(rewards, {"length": 1.0, "other": 0.0}, workers=1) as calculator:
        result = calculator.submit([words("a", "a b")], [["a"]], ["S"], ["1"]).result()
    assert result.total.tolist() == result.each["other"].tolist() == [[2.0, 3.0]]


def test_rewards_are_normalised_over_their_group_before_they_are_weighted():
    groups = [words("a", "a b c"), words("a b", "a b")]
    with RewardCalculator({"length": length}, {"length": 3.0}, workers=1, normalise=True) as calculator:
        result = calculator.submit(groups, [["a"], ["a"]], ["S", "S"], ["1", "2"]).result()
    assert result.total.tolist() == [[-3.0, 3.0], [0.0, 0.0]]
    assert normalised(np.array([[1.0, 2.0, 6.0]])).std() == pytest.approx(1)


@given(st.lists(st.tuples(st.lists(captions, min_size=2, max_size=2), captions), min_size=1, max_size=5), st.randoms())
def test_neither_the_order_of_groups_nor_the_number_of_threads_matters(groups, random):
    rewards = {"cider-d": CiderDReward(TABLE), "rouge-l": RougeReward()}
    weights = {"cider-d": 1.0, "rouge-l": 0.5}
    order = list(range(len(groups)))
    random.shuffle(order)

    def totals(rows: Sequence[int], workers: int) -> np.ndarray:
        with RewardCalculator(rewards, weights, workers=workers) as calculator:
            futures = [calculator.submit([words(*groups[i][0])], [[groups[i][1]]], ["S"], [str(i)]) for i in rows]
            return np.concatenate([future.result().total for future in futures])

    one = totals(range(len(groups)), 1)
    assert np.array_equal(totals(order, 3), one[order])
    with RewardCalculator(rewards, weights, workers=1) as calculator:
        together = calculator.submit(
            [words(*texts) for texts, _ in groups],
            [[reference] for _, reference in groups],
            ["S"] * len(groups),
            [str(i) for i in range(len(groups))],
        ).result()
    assert together.total == pytest.approx(one, abs=1e-12)  # a sum in another order is rounded otherwise


def test_many_submissions_share_references_without_harm():
    reward = CiderDReward(TABLE)
    references = [[f"a {word} runs", "the cat"] for word in WORDS]
    with RewardCalculator({"cider-d": reward}, {"cider-d": 1.0}, workers=8) as calculator:
        futures = [
            calculator.submit([words("a dog runs", "the cat sits")], [references[i % 10]], ["S"], [str(i)])
            for i in range(400)
        ]
        results = [future.result().total.tolist() for future in futures]
    assert results[:10] * 40 == results


def test_scoring_goes_on_while_the_caller_works():
    started, release = threading.Event(), threading.Event()

    def slow(batch: RewardBatch) -> list[list[float]]:
        started.set()
        assert release.wait(10)
        return length(batch)

    with RewardCalculator({"slow": slow}, {"slow": 1.0}, workers=1) as calculator:
        future = calculator.submit([words("a", "b")], [["a"]], ["S"], ["1"])
        assert started.wait(10)
        assert not future.done()  # and this thread is free
        release.set()
        assert future.result(10).total.shape == (1, 2)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_an_error_in_a_reward_comes_with_its_traceback():
    def failing(batch: RewardBatch) -> list[list[float]]:
        raise ZeroDivisionError("in a reward")

    with RewardCalculator({"failing": failing}, {"failing": 1.0}, workers=1) as calculator:
        future = calculator.submit([words("a")], [["a"]], ["S"], ["1"])
        with pytest.raises(ZeroDivisionError, match="in a reward") as raised:
            future.result()
        assert "failing" in [entry.name for entry in raised.traceback]
        # The pool survives it.
        calculator.rewards["failing"] = length
        assert calculator.submit([words("a")], [["a"]], ["S"], ["1"]).result().total.tolist() == [[2.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_no_number_is_named(value):
    rewards = {"odd": lambda batch: [[0.0, 1.0], [value, 0.0]]}
    groups = [words("a", "b"), words("two cats", "c")]
    with RewardCalculator(rewards, {"odd": 1.0}, workers=1) as calculator:
        future = calculator.submit(groups, [["a"], ["b"]], ["S", "S"], ["first", "second"])
        with pytest.raises(ValueError, match=r'reward odd is .* for image second, candidate "two cats"'):
            future.result()


def test_a_reward_of_the_wrong_shape_is_named():
    with RewardCalculator({"odd": lambda batch: [[0.0]]}, {"odd": 1.0}, workers=1) as calculator:
        future = calculator.submit([words("a", "b")], [["a"]], ["S"], ["1"])
        with pytest.raises(ValueError, match=r"reward odd gave values of shape \(1, 1\) for \(1, 2\) candidates"):
            future.result()


def test_a_group_without_references_is_named():
    with RewardCalculator({"length": length}, {"length": 1.0}, workers=1) as calculator:
        future = calculator.submit([words("a"), words("b")], [["a"], []], ["S", "Dry"], ["1", "img2"])
        with pytest.raises(ValueError, match="image img2 has no reference in style Dry"):
            future.result()


def test_closing_ends_the_threads_and_drops_what_has_not_begun():
    release = threading.Event()

    def slow(batch: RewardBatch) -> list[list[float]]:
        assert release.wait(10)
        return length(batch)

    calculator = RewardCalculator({"slow": slow}, {"slow": 1.0}, workers=1)
    futures = [calculator.submit([words("a")], [["a"]], ["S"], ["1"]) for _ in range(3)]
    threading.Timer(0.2, release.set).start()
    calculator.close()
    assert futures[0].result().total.tolist() == [[2.0]]
    assert futures[1].cancelled()
    assert futures[2].cancelled()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rewards")]


# The handler is set because a process that was started in the background of a script ignores Ctrl-C.
SCRIPT = """
import signal, time
from rewards.base import Candidate
from rewards.calculator import RewardCalculator
def slow(batch):
    time.sleep(0.3)
    return [[0.0]]
signal.signal(signal.SIGINT, signal.default_int_handler)
with RewardCalculator({"slow": slow}, {"slow": 1.0}, workers=2) as calculator:
    futures = [calculator.submit([[Candidate("a", True)]], [["a"]], ["S"], ["1"]) for _ in range(1000)]
    print("ready", flush=True)
    futures[-1].result()
"""


def test_ctrl_c_ends_the_process_without_scoring_the_rest():
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)  # a signal that arrives just before a thread waits does not wake it
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 10  # of the 150 seconds that scoring would take
    assert "KeyboardInterrupt" in errors
