"""The formulas of step 2, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.policy_gradient import (
    advantages,
    divergence,
    mean_by_caption,
    policy_loss,
    token_entropy,
    token_log_probs,
)

REWARDS = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
KEPT = torch.tensor([[True, True, False], [True, True, True]])


def test_greedy_baseline():
    expected = torch.tensor([[-1.0, 0.0, 4.0], [1.0, 1.0, 1.0]])
    assert torch.equal(advantages(REWARDS, baseline="greedy", greedy=torch.tensor([2.0, 3.0])), expected)


def test_leave_one_out_compares_with_the_mean_of_the_others():
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
    expected = torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(advantages(REWARDS, baseline="leave_one_out"), expected)


def test_batch_mean():
    torch.testing.assert_close(advantages(REWARDS, baseline="batch_mean"), REWARDS - 3.5)


def test_advantages_are_divided_by_the_deviation_of_the_group_or_of_the_batch():
    # the first group: mean 3, variance (4 + 1 + 9) / 3; the batch: mean 3.5, variance (6.25 + 2.25 + 6.25 + .75) / 6
    group = advantages(REWARDS, baseline="leave_one_out", normalise="group")
    torch.testing.assert_close(group[0], torch.tensor([-3.0, -1.5, 4.5]) / math.sqrt(14 / 3), rtol=1e-5, atol=0)
    assert torch.equal(group[1], torch.zeros(3))  # equal rewards: nothing is learnt, and nothing divided by 0
    batch = advantages(REWARDS, baseline="batch_mean", normalise="batch")
    torch.testing.assert_close(batch, (REWARDS - 3.5) / math.sqrt(15.5 / 6), rtol=1e-5, atol=0)


def test_one_candidate_has_no_others():
    with pytest.raises(ValueError, match=r"num_candidates is 1.*greedy"):
        advantages(torch.ones(2, 1), baseline="leave_one_out")


@given(
    st.lists(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.floats(-5, 5, width=32),
)
def test_leave_one_out_sums_to_zero_and_ignores_a_constant(rewards, constant):
    values = torch.tensor(rewards, dtype=torch.float64)
    result = advantages(values, baseline="leave_one_out")
    torch.testing.assert_close(result.sum(1), torch.zeros(len(rewards), dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(advantages(values + constant, baseline="leave_one_out"), result, atol=1e-9, rtol=0)


def test_the_loss_sums_or_averages_the_tokens_of_a_caption():
    log_probs = torch.tensor([-1.0, -3.0, -2.0, -1.0, -3.0])  # two tokens of the first caption, three of the second
    advantage = torch.tensor([2.0, -1.0])
    assert policy_loss(log_probs, KEPT, advantage, "sequence").item() == pytest.approx(2 * 4 - 1 * 6)
    assert policy_loss(log_probs, KEPT, advantage, "token").item() == pytest.approx(2 * 2 - 1 * 2)


def test_better_candidates_become_more_probable():
    logits = torch.zeros(2, 4, requires_grad=True)
    log_probs = token_log_probs(logits, torch.tensor([1, 3]))
    policy_loss(log_probs, torch.tensor([[True], [True]]), torch.tensor([1.0, -1.0]), "sequence").backward()
    # -A (one-hot - p) with p = 1/4
    expected = torch.tensor([[0.25, -0.75, 0.25, 0.25], [-0.25, -0.25, -0.25, 0.75]])
    torch.testing.assert_close(logits.grad, expected)


def test_entropy_and_divergence():
    p = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    q = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    torch.testing.assert_close(token_entropy(p.log() + 7), torch.tensor([1.5 * math.log(2), math.log(3)]))
    first = 0.5 * math.log(2) - 0.25 * math.log(2)
    second = (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3
    torch.testing.assert_close(divergence(p.log() + 1, q.log() - 2), torch.tensor([first, second]))
    torch.testing.assert_close(divergence(p.log(), p.log() + 3), torch.zeros(2), atol=1e-6, rtol=0)


def test_mean_by_caption():
    values = torch.tensor([1.0, 3.0, 2.0, 4.0, 9.0])
    assert mean_by_caption(values, KEPT).item() == pytest.approx(2 + 5)
