"""The fused spans against one softmax a span, forwards and backwards, and what they must not cost."""

import itertools

import pytest
import torch
from torch import Tensor

from models.trar.local_attention import chosen_attention
from models.trar.routed_attention import RoutedAttentionFunction, routed_attention, span_maps
from models.trar.span_softmax import widest_of
from models.trar.spans import outside_spans
from tests.models.trar.nano import Softmaxes
from tests.waits import Waits

SPANS = [(4, (0, 1, 2, 3)), (4, (1, 2)), (3, (2, 0)), (4, (0,)), (5, (1,))]


def inputs(grid: int, spans: int, scale: float = 1.0, images: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and weights in float64; `scale` makes the scores large."""
    torch.manual_seed(grid + spans)
    parts = [torch.randn(images, 2, grid * grid, 4, dtype=torch.float64) for _ in range(3)]
    parts[0] *= scale
    q, k, v = (part.requires_grad_() for part in parts)
    return q, k, v, torch.randn(images, spans, dtype=torch.float64).requires_grad_()


def paddings(grid: int) -> list[Tensor | None]:
    """None; some cells, so that windows of single cells are empty; a whole image, none, and a last quarter."""
    cells = grid * grid
    whole = torch.stack([torch.ones(cells), torch.zeros(cells), torch.arange(cells) >= 3 * cells // 4]).bool()
    return [None, torch.rand(3, cells, generator=torch.Generator().manual_seed(1)) > 0.3, whole]


def plain(q: Tensor, k: Tensor, v: Tensor, alphas: Tensor, outside: Tensor, padding: Tensor | None) -> Tensor:
    return torch.einsum("br,brhij,bhje->bhie", alphas, span_maps(q, k, outside, padding), v)


@pytest.mark.parametrize(("grid", "orders"), SPANS)
@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_it_is_the_weighted_sum_of_masked_softmaxes(grid: int, orders: tuple[int, ...], scale: float) -> None:
    outside = outside_spans(grid, orders)
    for padding in paddings(grid):
        parts = inputs(grid, len(orders), scale)
        found, expected = routed_attention(*parts, outside, padding), plain(*parts, outside, padding)
        assert torch.allclose(found, expected, atol=1e-12)
        gradients = [torch.autograd.grad(out.sin().sum(), parts) for out in (found, expected)]
        for one, other in zip(*gradients, strict=True):
            assert torch.allclose(one, other, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("padded", [0, 1, 2])
def test_its_gradients_are_right(rate: float, padded: int) -> None:
    outside, padding = outside_spans(3, (0, 1)), paddings(3)[padded]
    parts = inputs(3, 2)
    assert torch.autograd.gradcheck(lambda *x: RoutedAttentionFunction.apply(*x, outside, padding, rate, 5), parts)


def test_float32_scores_that_lie_far_apart_lose_no_digits() -> None:
    """The window's part of the global softmax is smaller than float32 can hold."""
    outside = outside_spans(4, (0, 1))
    q, k, v, alphas = (part.detach().float() for part in inputs(4, 2))
    key = k.clone()
    key[:, :, -1] *= 100  # a distant cell takes all of the global softmax
    found = routed_attention(q * 10, key, v, alphas, outside)
    expected = plain(q.double() * 10, key.double(), v.double(), alphas.double(), outside, None)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_each_span_draws_its_own_dropout() -> None:
    """Over many draws the mean is the result without dropout, and the variance that of independent draws."""
    outside = outside_spans(2, (0, 1))
    torch.manual_seed(0)
    q = k = torch.zeros(1, 1, 4, 1)  # with equal scores both spans are the same four weights of 1/4
    v, alphas = torch.ones(1, 1, 4, 1), torch.tensor([[0.5, 0.5]])
    draws = torch.stack([routed_attention(q, k, v, alphas, outside, dropout=0.5) for _ in range(4000)])
    assert float(draws.mean()) == pytest.approx(1.0, abs=0.01)
    # eight independent weights of 1/8, each 0 or 1/4: variance 8 / 64; one draw for both spans would give 4 / 16
    assert float(draws.var()) == pytest.approx(1 / 8, rel=0.06)


def test_dropout_repeats_with_torchs_seed_and_differs_without() -> None:
    outside = outside_spans(4, (0, 1))
    parts = inputs(4, 2)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(routed_attention(*parts, outside, dropout=0.3))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_scores_and_exponentials_are_computed_once_whatever_the_number_of_spans() -> None:
    parts = inputs(4, 4)
    with Softmaxes() as softmaxes:
        routed_attention(*parts, outside_spans(4, (0, 1, 2, 3)))
    assert softmaxes.sizes == [3 * 2 * 16 * 16]


def test_nothing_of_cells_by_cells_is_kept_for_the_backward_pass() -> None:
    parts = inputs(5, 4)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        routed_attention(*parts, outside_spans(5, (0, 1, 2, 3)), dropout=0.1)
    assert max(kept) == max(parts[0].numel(), 4 * 25 * 25)  # an input, or the spans, which every layer shares


def test_large_grids_are_taken_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    outside, padding = outside_spans(4, (0, 1, 2)), paddings(4)[1]
    parts = inputs(4, 3)
    results = []
    for at_once in (2**20, 16 * 16, 1):  # all, a head at a time, and still a head at a time
        monkeypatch.setattr("models.trar.span_softmax._AT_ONCE", at_once)
        out = routed_attention(*parts, outside, padding)
        results.append((out, *torch.autograd.grad(out.sum(), parts)))
    for others in results[1:]:
        assert all(torch.allclose(one, other) for one, other in zip(results[0], others, strict=True))


def test_half_precision_stays_near() -> None:
    outside, padding = outside_spans(4, (0, 1, 2)), paddings(4)[1]
    q, k, v = (part.detach().bfloat16() for part in inputs(4, 3)[:3])
    alphas = torch.rand(3, 3).softmax(-1)
    found = routed_attention(q, k, v, alphas, outside, padding)
    assert found.dtype == torch.bfloat16
    expected = plain(q.double(), k.double(), v.double(), alphas.double(), outside, padding)
    assert torch.allclose(found.double(), expected, atol=0.05)


@pytest.mark.parametrize(("grid", "orders"), [*SPANS, (7, (2, 0, 1))])
def test_one_span_an_image_is_the_same_as_all_with_one_weight(grid: int, orders: tuple[int, ...]) -> None:
    outside = outside_spans(grid, orders)
    q, k, v, _ = inputs(grid, len(orders))
    for padding, chosen in itertools.product(paddings(grid), range(len(orders))):
        choice = torch.tensor([0, chosen, chosen])
        weights = torch.nn.functional.one_hot(choice, len(orders)).double()
        found = chosen_attention(q, k, v, choice, orders, grid, padding)
        assert torch.allclose(found, plain(q, k, v, weights, outside, padding), atol=1e-12)


def test_only_the_chosen_span_is_computed() -> None:
    q, k, v, _ = inputs(8, 2, images=1)
    with Softmaxes() as softmaxes:
        chosen_attention(q, k, v, torch.tensor([1]), (0, 1), 8)
    assert softmaxes.sizes == [2 * 64 * 3 * 8]  # heads x cells x three grid rows, not x 64 cells


@pytest.mark.parametrize("scale", [1.0, 3000.0])  # spans together, and apart
def test_a_layer_waits_for_the_device_once_and_its_backward_pass_never(scale: float) -> None:
    outside = outside_spans(4, (0, 1, 2, 3))
    q, k, v, alphas = inputs(4, 4, scale)
    routed_attention(q, k, v, alphas, outside)  # what is true of all layers is asked here
    with Waits() as forward:
        mixed = routed_attention(q, k, v, alphas, outside)
    assert len(forward.found) == 1
    with Waits() as backward:
        mixed.sum().backward()
    assert backward.found == []
    expected = [x.grad.clone() for x in (q, k, v, alphas) if x.grad is not None]
    for x in (q, k, v, alphas):
        x.grad = None
    plain(q, k, v, alphas, outside, None).sum().backward()
    for found, x in zip(expected, (q, k, v, alphas), strict=True):
        torch.testing.assert_close(found, x.grad, rtol=1e-6, atol=1e-8)


def test_spans_that_are_changed_in_place_are_looked_at_again() -> None:
    outside = outside_spans(4, (0, 1))
    assert widest_of(outside) == (0, True)
    outside[0] = True
    assert widest_of(outside) == (1, False)
