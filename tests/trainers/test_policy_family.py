"""The relatives of step 2's policy gradient: by hand, against published formulas, and against a true gradient."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.ofa.generation import filter_logits
from tests.trainers.test_scst import K, batch, model, objective  # noqa: F401  fixtures
from trainers.distributed import World
from trainers.objective import TrainingModule
from trainers.policy_gradient import (
    advantages,
    clipped_loss,
    clipped_share,
    drawn_log_probs,
    mean_by_caption,
    policy_loss,
    token_entropy,
    token_log_probs,
)
from trainers.rollouts import candidate_logits
from trainers.update import Updater

KEPT = torch.tensor([[True, True, False], [True, True, True]])
LOG_PROBS = torch.tensor([-1.0, -2.0, -0.5, -0.5, -1.5])
ADVANTAGE = torch.tensor([3.0, -1.0])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sequence", 3 * 3 - 2.5),
        ("token", 3 * 3 / 2 - 2.5 / 3),
        ("constant", (3 * 3 - 2.5) / 17),
        ("batch", 3 * 3 - 2.5),
    ],
)
def test_reductions_by_hand(reduction, expected):
    assert policy_loss(LOG_PROBS, KEPT, ADVANTAGE, reduction, longest=17).item() == pytest.approx(expected)


def test_the_group_mean_counts_the_candidate_itself():
    found = advantages(torch.tensor([[1.0, 2.0, 6.0]]), baseline="group_mean")
    torch.testing.assert_close(found, torch.tensor([[-2.0, -1.0, 3.0]]))


def test_ratios_are_clipped_by_hand():
    ratios = torch.tensor([1.5, 0.5, 1.1, 1.5, 0.5])
    before = LOG_PROBS - ratios.log()
    # advantage 3: min(1.5, 1.3), min(0.5, 0.8); advantage -1: -1.1, -1.5 (not clipped: it must come down), -0.8
    expected = -(3 * (1.3 + 0.5) - (1.1 + 1.5 + 0.8))
    found = clipped_loss(LOG_PROBS, before, KEPT, ADVANTAGE, "sequence", low=0.2, high=0.3)
    assert found.item() == pytest.approx(expected)
    each = ADVANTAGE[:, None].expand_as(KEPT)[KEPT]
    assert clipped_share(LOG_PROBS, before, each, low=0.2, high=0.3).item() == 2


def published(reduction: str, log_probs: Tensor, before: Tensor, mask: Tensor, advantage: Tensor) -> Tensor:
    """GRPO, Dr. GRPO and DAPO as their papers, and the losses "grpo", "dr_grpo" and "dapo" of TRL, write them: [N, T]
    in, a mean out."""
    ratio = torch.exp(log_probs - before)
    each = -torch.min(ratio * advantage[:, None], torch.clamp(ratio, 0.8, 1.28) * advantage[:, None])
    if reduction == "token":
        return ((each * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    if reduction == "constant":
        return (each * mask).sum() / (each.size(0) * each.size(1))
    return (each * mask).sum() / mask.sum()


@pytest.mark.parametrize("reduction", ["token", "constant", "batch"])
def test_losses_equal_the_published_formulas_on_random_tensors(reduction):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 8, (12,), generator=generator)
    mask = torch.arange(7)[None] < lengths[:, None]
    log_probs = -3 * torch.rand(12, 7, generator=generator)
    before = log_probs + 0.4 * torch.randn(12, 7, generator=generator)
    advantage = torch.randn(12, generator=generator)
    leaves = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    expected = published(reduction, leaves[0], before, mask.float(), advantage)
    settings: dict[str, Any] = {"low": 0.2, "high": 0.28, "longest": 7}
    found = clipped_loss(leaves[1][mask], before[mask], mask, advantage, reduction, **settings)
    found = found / (mask.sum() if reduction == "batch" else 12)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip((expected, found), leaves, strict=True)]
    torch.testing.assert_close(*gradients)


def test_group_normalisation_equals_the_published_one_but_for_the_kind_of_deviation():
    rewards = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = advantages(rewards, baseline="group_mean", normalise="group")
    mean = rewards.mean(1, keepdim=True)
    torch.testing.assert_close(found, (rewards - mean) / (rewards.std(1, correction=0, keepdim=True) + 1e-6))
    # TRL divides by the deviation of a sample, and adds 1e-4 to it.
    trl = (rewards - mean) / (rewards.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(found * math.sqrt(3 / 4), trl, rtol=2e-3, atol=0)


# --- the gradient of what is sampled from ----------------------------------------------------------------------------

DRAWINGS: list[dict[str, Any]] = [
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0},
    {"temperature": 0.5, "top_k": 0, "top_p": 1.0},
    {"temperature": 1.7, "top_k": 3, "top_p": 1.0},
    {"temperature": 0.8, "top_k": 0, "top_p": 0.7},
    {"temperature": 1.3, "top_k": 3, "top_p": 0.8},
]
PAD, REWARDS = 1, torch.tensor([0.3, 9.0, -1.0, 2.0, 0.7], dtype=torch.float64)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_expected_gradient_of_pairs_of_candidates_is_the_true_one(drawing):
    """A vocabulary of five, captions of one token: every pair of candidates can be written down."""
    theta = torch.tensor([0.9, 2.0, 0.1, 0.6, -0.7], requires_grad=True)
    banned = torch.tensor([[PAD, PAD]])
    drawn = filter_logits(theta[None].index_fill(1, torch.tensor([PAD]), -torch.inf), **drawing).softmax(-1)[0]
    expected_reward = (drawn.double() * REWARDS).sum()
    (true,) = torch.autograd.grad(expected_reward, theta, retain_graph=True)
    probability = drawn.detach()
    possible = [token for token in range(5) if probability[token] > 0]
    assert PAD not in possible
    total = torch.zeros(5)
    for pair in itertools.product(possible, repeat=2):
        tokens = torch.tensor(pair)
        log_probs = drawn_log_probs(theta.expand(2, 5), tokens, banned.expand(2, 2), **drawing)
        torch.testing.assert_close(log_probs.exp(), probability[tokens])
        advantage = advantages(REWARDS[tokens][None], baseline="leave_one_out")[0].float()
        loss = policy_loss(log_probs, torch.ones(2, 1, dtype=torch.bool), advantage, "sequence") / 2
        total += probability[tokens].prod() * torch.autograd.grad(-loss, theta)[0]
    torch.testing.assert_close(total, true, rtol=1e-4, atol=1e-5)
    if drawing["top_k"]:  # the model's own log-probability would give another direction
        wrong = torch.autograd.grad((drawn.detach() * REWARDS * theta.log_softmax(-1)).sum(), theta)[0]
        assert (wrong - true).abs().max() > 0.05


def test_banned_tokens_that_had_nearly_everything_leave_finite_numbers():
    logits = torch.tensor([[30.0, 1.0, 2.0, 0.0]], requires_grad=True)
    drawing = DRAWINGS[0]
    found = drawn_log_probs(logits, torch.tensor([2]), torch.tensor([[0, 0]]), **drawing)
    torch.testing.assert_close(found, token_log_probs(logits[:, 1:], torch.tensor([1])))
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_beams_with_a_baseline_of_beams_warn(caplog):
    objective(candidates="beam", baseline="greedy")
    assert not caplog.records
    objective(candidates="beam")
    assert "no sample of the model" in caplog.text


# --- the objective ---------------------------------------------------------------------------------------------------


def test_several_updates_use_one_rollout(model, batch):  # noqa: F811
    scst = objective(updates_per_rollout=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    inner = TrainingModule(model, scst)
    updater = Updater(inner, inner, optimizer, World(), clip_norm=0.0, dtype="float32")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = updater([batch], 0, 0.2, False)
    calculator: Any = scst.calculator
    assert len(calculator.calls) == 1
    assert 0 < result.logs["clipped"] <= 1
    assert any(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_the_first_update_of_a_rollout_has_the_gradient_of_the_plain_loss(model, batch):  # noqa: F811
    found = []
    for updates in (1, 2):
        scst = objective(updates_per_rollout=updates)
        scst.set_mode(model)
        torch.manual_seed(1)
        scst(model, scst.prepare(model, batch), 0).loss_sum.backward()
        found.append(model.decoder.embed_tokens.weight.grad.clone())
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_the_batch_of_tokens_is_counted_after_sampling(model, batch):  # noqa: F811
    counted = objective(reduction="batch")
    inner = TrainingModule(model, counted)
    updater = Updater(inner, inner, torch.optim.SGD(model.parameters()), World(), clip_norm=1.0, dtype="float32")
    assert math.isfinite(updater([batch, batch], 0, 0.0, False).logs["loss"])
    scst = objective(reduction="batch", max_len_b=3, mask_truncated=True)
    scst.set_mode(model)
    prepared = scst.prepare(model, batch)
    rollout = prepared["rollout"]
    assert 0 < scst.count(prepared, 0) == int(rollout.kept[rollout.ended].sum()) < int(rollout.kept.sum())


def test_truncated_candidates_teach_nothing(model, batch):  # noqa: F811
    losses = []
    for masked in (False, True):
        scst = objective(max_len_b=2, mask_truncated=masked)
        scst.set_mode(model)
        torch.manual_seed(4)
        prepared = scst.prepare(model, batch)
        prepared["rollout"].ended = torch.zeros(4, K, dtype=torch.bool)
        losses.append(scst(model, prepared, 0).loss_sum.item())
    assert losses[0] != 0
    assert losses[1] == 0


def test_the_entropy_term_is_subtracted_with_its_weight(model, batch):  # noqa: F811
    losses, expected = [], 0.0
    for weight in (0.0, 0.5):
        scst = objective(entropy_weight=weight, reduction="batch")
        scst.set_mode(model)
        torch.manual_seed(4)
        prepared = scst.prepare(model, batch)
        rollout = prepared["rollout"]
        with torch.no_grad():
            logits, kept, _ = candidate_logits(model, rollout.encoded, rollout.tokens)
            expected = 0.5 * mean_by_caption(token_entropy(logits), kept).item() / len(kept)
        losses.append(scst(model, prepared, 0).loss_sum.item() / scst.count(prepared, 0))
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-3)
