"""The worst tokens of a batch are those of all ranks together."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.nano import DIVISIBLE, assert_close, history, nano_config, saved_weights, train
from tests.trainers.test_cross_entropy import PAD, run
from tests.trainers.test_distributed import launch_two
from trainers.cross_entropy import CrossEntropy, kept_of_own, kept_tokens


def test_the_worst_of_all_ranks_by_hand():
    # Rank 0 has losses 1, 2, 9; rank 1 has 8 and 7. Of five tokens 40% are dropped: 9 and 8, not the worst of each.
    losses = [torch.tensor([1.0, 2.0, 9.0]), torch.tensor([8.0, 7.0])]
    assert sorted(kept_of_own(losses[0], losses, 0, 0.4).tolist()) == [0, 1]
    assert sorted(kept_of_own(losses[1], losses, 1, 0.4).tolist()) == [1]
    # Of equal ones at the limit, those stay that stand first, whichever rank has them.
    equal = [torch.tensor([5.0, 5.0]), torch.tensor([5.0, 5.0])]
    assert [sorted(kept_of_own(own, equal, rank, 0.25).tolist()) for rank, own in enumerate(equal)] == [[0, 1], [0]]
    # A rank may keep nothing at all.
    assert kept_of_own(torch.tensor([9.0]), [torch.tensor([1.0]), torch.tensor([9.0])], 1, 0.5).tolist() == []


@given(
    parts=st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4).filter(lambda parts: any(parts)),
    ratio=st.floats(0, 0.95),
)
def test_ranks_keep_what_one_batch_of_them_all_keeps(parts: list[list[int]], ratio: float):
    losses = [torch.tensor(part, dtype=torch.float32) for part in parts]
    together = sorted(kept_tokens(torch.cat(losses), ratio).tolist())
    starts = [sum(map(len, parts[:rank])) for rank in range(len(parts))]
    apart = [
        start + row
        for rank, (own, start) in enumerate(zip(losses, starts, strict=True))
        for row in kept_of_own(own, losses, rank, ratio).tolist()
    ]
    assert sorted(apart) == together


def test_the_objective_of_two_ranks_by_hand():
    """Three uniform tokens (ln 8 each) on rank 0, one uniform and two hopeless ones (50) on rank 1; a third is dropped:
    both hopeless ones, though both are on one rank. Four tokens are left, of which rank 1 has one."""
    uniform, hopeless = torch.zeros(3, 8), torch.zeros(3, 8)
    hopeless[1:, 0] = 50.0
    targets, logits = [torch.tensor([[3, 4, 2]])] * 2, [uniform, hopeless]
    losses = [torch.full((3,), math.log(8)), torch.tensor([math.log(8), 50.0, 50.0])]
    total = 0.0
    for rank in (0, 1):

        def gather(value: Any, rank: int = rank) -> list[Any]:
            if isinstance(value, int):
                return [3, 3]
            torch.testing.assert_close(value, losses[rank])
            return losses

        objective = CrossEntropy(pad=PAD, label_smoothing=0.0, drop_worst_ratio=1 / 3, gather=gather, rank=rank)
        output, count = run(objective, targets[rank], lambda rank=rank: logits[rank], step=1)
        assert count == 2  # half of the four that are left
        assert output.loss_sum.item() == pytest.approx((3, 1)[rank] * math.log(8), rel=1e-6)
        assert output.logs["nll"][1] == (3, 1)[rank]
        total += output.loss_sum.item()
    assert total == pytest.approx(4 * math.log(8), rel=1e-6)


def test_nothing_is_gathered_before_tokens_are_dropped():
    def gather(value: Any) -> list[Any]:
        raise AssertionError("the other ranks do not wait here")

    for settings in ({"drop_worst_ratio": 0.0}, {"drop_worst_ratio": 0.5, "drop_worst_after": 5}):
        objective = CrossEntropy(pad=PAD, label_smoothing=0.0, gather=gather, **settings)  # type: ignore[arg-type]
        output, count = run(objective, torch.tensor([[3, 4, 2]]), lambda: torch.zeros(3, 8), step=5)
        assert (count, output.logs["nll"][1]) == (3, 3)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_ranks_drop_what_one_with_twice_the_batch_drops(demo, tmp_path):
    sets = [*DIVISIBLE, "train.max_steps=2", "train.drop_worst_ratio=0.3"]
    launch_two(demo, tmp_path / "two", *sets, "train.batch_size=4")
    one = nano_config(demo, tmp_path / "one", *sets, "train.batch_size=8")
    train(one)
    two = nano_config(demo, tmp_path / "two")
    for value in ("loss", "nll", "grad_norm"):
        expected = [number for _, number in history(one, value)]
        assert [number for _, number in history(two, value)] == pytest.approx(expected, abs=3e-5)
    assert_close(saved_weights(two), saved_weights(one), atol=2e-5)
