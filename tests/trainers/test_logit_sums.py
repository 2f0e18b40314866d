"""Sums over a vocabulary and their gradient against autograd's own, over whole and parted batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import trainers.logit_sums
from trainers.logit_sums import logit_sums


def naive_sums(logits: Tensor, picked: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    x = logits.float() * scale
    return x.logsumexp(-1), x.gather(1, picked), x.sum(-1)


@pytest.fixture(autouse=True, scope="module")
def groups_of_three_rows():
    patch = pytest.MonkeyPatch()
    patch.setattr(trainers.logit_sums, "_CACHED", 3 * 7)
    yield
    patch.undo()


@given(rows=st.integers(0, 8), count=st.integers(1, 3), scale=st.sampled_from([1.0, 2.0, 0.7]), seed=st.integers(0, 99))
def test_sums_and_their_gradient_are_autograds(rows, count, scale, seed):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, 7, generator=random)
    picked = torch.randint(7, (rows, count), generator=random)  # also one token twice
    results = []
    for sums in (logit_sums, naive_sums):
        leaf = logits.clone().requires_grad_()
        found = sums(leaf, picked, scale)
        weights = [torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)) for one in found]
        torch.stack([(one * by).sum() for one, by in zip(found, weights, strict=True)]).sum().backward()
        results.append([*(one.detach() for one in found), leaf.grad])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_low_precision_logits_have_a_gradient_of_their_type_that_was_summed_in_float32():
    logits = torch.randn(5, 7, dtype=torch.bfloat16, requires_grad=True)
    normaliser, own, total = logit_sums(logits, torch.tensor([[0], [1], [2], [3], [4]]))
    assert {one.dtype for one in (normaliser, own, total)} == {torch.float32}
    (normaliser - own.squeeze(1)).sum().backward()
    expected = logits.detach().float().softmax(-1) - torch.eye(5, 7)
    assert logits.grad is not None
    assert torch.equal(logits.grad, expected.bfloat16())


def test_what_cannot_be_drawn_has_no_gradient():
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    normaliser, own, _ = logit_sums(logits, torch.tensor([[2]]))
    (own.squeeze(1) - normaliser).sum().backward()
    p = 1 / (1 + torch.e)
    torch.testing.assert_close(logits.grad, torch.tensor([[-p, 0.0, p]]))
