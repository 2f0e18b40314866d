"""Norm, dropout, pools and routing weights of TRAR."""

import pytest
import torch
from torch import Tensor, nn

from models.trar.blocks import AttentionPool, NormedPool
from models.trar.elementwise import Dropout, LayerNorm, ReluDropout, draw, dropout_factor
from models.trar.routing import LinearPool, MeanPool, RoutingBlock, gumbel_noise, hard_weights, one_hot
from models.trar.spans import outside_spans, outside_window, padding_of


def published_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return gain * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + bias


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_the_norm_is_the_published_one_with_its_gradients(scale: float) -> None:
    norm = LayerNorm(8).double()
    with torch.no_grad():
        norm.a_2.uniform_(0.5, 2)
        norm.b_2.normal_()
    x = (torch.randn(3, 5, 8, dtype=torch.float64) * scale).requires_grad_()
    found, expected = norm(x), published_norm(x, norm.a_2, norm.b_2)
    assert torch.allclose(found, expected, atol=1e-12)
    inputs = (x, norm.a_2, norm.b_2)
    for one, other in zip(*(torch.autograd.grad(out.sin().sum(), inputs) for out in (found, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.7e-3, 1e3])
@pytest.mark.parametrize("width", [1, 5, 32])
def test_a_constant_row_gives_the_bias(value: float, width: int) -> None:
    norm = LayerNorm(width)
    with torch.no_grad():
        norm.b_2.normal_()
    x = torch.full((2, width), value, requires_grad=True)
    out = norm(x)
    assert torch.allclose(out, norm.b_2.expand(2, width), atol=1e-5)
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_dropout_keeps_its_share_and_scales_it() -> None:
    x = torch.ones(200, 500)
    out = Dropout(0.25).train()(x)
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.005)
    assert out[kept].unique().tolist() == pytest.approx([256 / 192])
    assert torch.equal(Dropout(0.25).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)


def test_the_gradient_of_dropout_is_its_mask() -> None:
    x = torch.randn(50, 40, requires_grad=True)
    out = Dropout(0.5).train()(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, out != 0)
    assert torch.allclose(x.grad * x, out)


def test_relu_and_dropout_in_one() -> None:
    x = torch.randn(50, 40, requires_grad=True)
    layer = ReluDropout(0.5).train()
    torch.manual_seed(1)
    out = layer(x)
    torch.manual_seed(1)
    expected = x.relu() * draw(x.shape, 0.5, x.device) * dropout_factor(0.5)
    assert torch.allclose(out, expected)
    one, other = (torch.autograd.grad(part.sum(), x)[0] for part in (out, expected))
    assert torch.allclose(one, other)
    assert torch.equal(layer.eval()(x), x.relu())


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 1.0), (0.001, 1.0), (0.5, 0.5), (0.999, 1 / 256)])
def test_the_rate_is_rounded_to_a_byte(rate: float, kept: float) -> None:
    drawn = draw((1000, 100), rate, torch.device("cpu"), seed=1)
    assert set(drawn.unique().tolist()) <= {0, 1}
    assert float(drawn.float().mean()) == pytest.approx(kept, abs=0.005)
    assert dropout_factor(rate) == pytest.approx(1 / kept)


def test_draws_of_a_seed_repeat_and_leave_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = (draw((3, 7), 0.4, torch.device("cpu"), seed=9) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, draw((3, 7), 0.4, torch.device("cpu"), seed=10))
    assert torch.equal(before, torch.get_rng_state())


def test_windows_by_hand() -> None:
    """A corner of a 3 x 3 grid sees four cells at order 1, the middle all nine."""
    outside = outside_window(3, 1)
    assert (~outside[0]).nonzero().flatten().tolist() == [0, 1, 3, 4]
    assert not outside[4].any()
    assert outside_spans(3, (0, 1))[0].any().item() is False
    with pytest.raises(ValueError, match="order 3 does not fit a grid of 3x3"):
        outside_window(3, 3)


def test_padding() -> None:
    assert padding_of(torch.tensor([[3, 0, 1]])).tolist() == [[False, True, False]]
    features = torch.tensor([[[0.0, 0.0], [0.0, -1e-30], [1.0, -1.0]]])
    assert padding_of(features).tolist() == [[True, False, False]]


POOLS: dict[str, nn.Module] = {"avg": MeanPool(), "attention": NormedPool(8), "fc": LinearPool(8)}


@pytest.mark.parametrize("name", POOLS)
def test_pools_ignore_what_is_padded(name: str) -> None:
    pool = POOLS[name].eval()
    x = torch.randn(2, 6, 8)
    padding = torch.tensor([[False] * 4 + [True] * 2] * 2)
    other = x.clone()
    other[:, 4:] = 100 * torch.randn(2, 2, 8)
    assert torch.allclose(pool(x, padding), pool(other, padding), atol=1e-5)
    assert torch.allclose(pool(x, padding), pool(x[:, :4], None), atol=1e-5)
    everything = torch.ones(2, 6, dtype=torch.bool)
    assert torch.allclose(pool(x, everything), x.mean(1) if name == "avg" else pool(x, everything))
    assert torch.isfinite(pool(x, everything)).all()


@pytest.mark.parametrize("name", POOLS)
def test_a_routing_block_counts_padding_only_where_it_is_told_to(name: str) -> None:
    x, padding = torch.randn(2, 6, 8), torch.tensor([[False] * 4 + [True] * 2] * 2)
    blind, counting = (RoutingBlock(8, 3, name, pool_padding=flag).eval() for flag in (False, True))
    counting.load_state_dict(blind.state_dict())
    assert blind(x, padding).shape == (2, 3)
    assert not torch.allclose(blind(x, padding), counting(x, padding))
    assert torch.allclose(blind(x, None), counting(x, padding), atol=1e-6)


def test_a_batch_of_one_is_a_row_of_a_larger_one() -> None:
    x = torch.randn(3, 6, 8)
    for name in POOLS:
        block = RoutingBlock(8, 3, name, pool_padding=True).eval()
        assert torch.allclose(block(x[:1], None), block(x, None)[:1], atol=1e-6)


def test_glimpses_are_concatenated_sums() -> None:
    pool = AttentionPool(4, 6, 5, glimpses=2, dropout=0.0)
    x = torch.randn(2, 3, 4)
    weights = pool.mlp(x).softmax(1)
    sums = [(weights[:, :, glimpse, None] * x).sum(1) for glimpse in range(2)]
    assert torch.allclose(pool(x, None), pool.linear_merge(torch.cat(sums, 1)), atol=1e-6)


def test_hard_weights_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 3.0]]))  # probabilities 1/4 and 3/4
    assert hard_weights(logits, None, 1.0).tolist()[0] == pytest.approx([0.25, 0.75])
    assert hard_weights(logits, None, 0.5).tolist()[0] == pytest.approx([0.1, 0.9])
    even = torch.log(torch.tensor([[3.0, 1.0]]))
    assert hard_weights(logits, even, 1.0).tolist()[0] == pytest.approx([0.5, 0.5])


def test_hard_weights_pick_each_span_as_often_as_its_probability() -> None:
    logits = torch.log(torch.tensor([0.2, 0.3, 0.5])).expand(20000, 3)
    picked = hard_weights(logits, gumbel_noise(logits), 0.1).argmax(-1)
    shares = [float((picked == span).float().mean()) for span in range(3)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.015)


def test_one_hot_takes_the_first_of_equals() -> None:
    assert one_hot(torch.tensor([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])).tolist() == [[1, 0, 0], [0, 0, 1]]
