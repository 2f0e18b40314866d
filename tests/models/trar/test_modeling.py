"""The whole TRAR network: evaluation, choice of a span, single images, padding, and input that does not fit."""

from typing import Any

import pytest
import torch

from benchmarks.trar_plain import PlainTrar
from models.trar import TrarModel
from models.trar.layers import RoutedAttention
from tests.models.trar.nano import nano_batch, nano_config, nano_model

POOLINGS = ("avg", "attention", "fc")


def test_expected_evaluation_is_the_same_each_time_and_at_the_trained_temperature() -> None:
    model = nano_model(routing="hard")
    model.tau = 0.3
    first, second = model(*nano_batch()), model(*nano_batch())
    assert torch.equal(first.logits, second.logits)
    model.tau = 10.0
    assert model(*nano_batch()).alphas.amax() < first.alphas.amax()


def test_published_evaluation_is_noisy_and_at_the_highest_temperature() -> None:
    model = nano_model(routing="hard", evaluation="published")
    model.tau = 0.1
    first, second = model(*nano_batch()), model(*nano_batch())
    assert not torch.equal(first.alphas, second.alphas)
    quiet = nano_model(routing="hard")
    quiet.tau = 10.0
    noise = torch.zeros(2, 3, 4)
    assert torch.allclose(model(*nano_batch(), noise=noise).alphas, quiet(*nano_batch()).alphas)


def test_training_is_noisy_whatever_the_evaluation_and_soft_routing_never() -> None:
    for evaluation in ("expected", "published"):
        model = nano_model(routing="hard", evaluation=evaluation).train()
        assert not torch.equal(model(*nano_batch()).alphas, model(*nano_batch()).alphas)
    model = nano_model(evaluation="published").train()
    assert torch.equal(model(*nano_batch()).alphas, model(*nano_batch()).alphas)


@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_binarize_uses_the_heaviest_span_alone_outside_training(routing: str) -> None:
    model = nano_model(routing=routing, binarize=True)
    out = model(*nano_batch())
    assert torch.equal(out.used.sum(-1), torch.ones(2, 3))
    assert torch.equal(out.used.argmax(-1), out.alphas.argmax(-1))
    mixing = nano_model(routing=routing)
    assert not torch.allclose(mixing(*nano_batch()).logits, out.logits)
    training = model.train()(*nano_batch(), noise=torch.zeros(2, 3, 4))
    assert torch.equal(training.used, training.alphas)


def test_one_weight_of_one_is_what_binarize_computes() -> None:
    """At a temperature near zero the weights are one-hot, so both ways must agree."""
    chosen, mixed = nano_model(routing="hard", binarize=True), nano_model(routing="hard")
    mixed.tau = 1e-4
    assert torch.allclose(mixed(*nano_batch()).logits, chosen(*nano_batch()).logits, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("pool_padding", [False, True])
def test_an_image_alone_gets_what_it_gets_in_a_batch(pooling: str, pool_padding: bool) -> None:
    model = nano_model(pooling=pooling, pool_padding=pool_padding)
    features, questions = nano_batch()
    together = model(features, questions).logits
    for row in range(len(features)):
        assert torch.allclose(model(features[row, None], questions[row, None]).logits[0], together[row], atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_word_and_no_region_give_finite_answers_and_gradients(pooling: str) -> None:
    model = nano_model(pooling=pooling, dropout=0.1).train()
    features, questions = nano_batch()
    features[0] = 0
    questions[1] = 0
    out = model(features, questions)
    out.logits.sum().backward()
    assert torch.isfinite(out.logits).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_autocast_stays_near() -> None:
    model = nano_model()
    exact = model(*nano_batch()).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = model.train()(*nano_batch()).logits
    near.sum().backward()
    assert torch.allclose(near.float(), exact, atol=0.15)


def test_the_plain_network_of_the_benchmark_gives_the_same_answers() -> None:
    model = nano_model(pool_padding=True)
    plain = PlainTrar(model.config).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.allclose(plain(*nano_batch()), model(*nano_batch()).logits, atol=1e-5)


def test_a_fresh_network_has_the_highest_temperature() -> None:
    assert TrarModel(nano_config(tau_max=7.0)).tau == 7.0


def test_attention_maps_add_up_to_one() -> None:
    model = nano_model()
    features, _ = nano_batch()
    padding = (features == 0).all(-1)
    block = model.backbone.get_submodule("dec_list.0.mhatt1")
    assert isinstance(block, RoutedAttention)
    maps = block.maps(torch.randn(3, 16, 8), model.route(padding))
    assert maps.shape == (3, 4, 2, 16, 16)
    assert torch.allclose(maps.sum(-1), torch.ones(3, 4, 2, 16), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "questions", "message"),
    [
        ((2, 4, 4, 6), (2, 6), "flattened row by row"),
        ((2, 15, 6), (2, 6), r"15 cells for a network of 4x4 = 16, and 15 cells are no square grid: pad or cut"),
        ((2, 64, 6), (2, 6), r"64 cells for a network of 4x4 = 16: pad or cut"),
        ((2, 16, 7), (2, 6), r"features 7 wide for a network of feature_width=6"),
        ((2, 16, 6), (2, 0), "at least one place for a word"),
        ((2, 16, 6), (3, 6), r"questions of shape \[3, 6\] for 2 images"),
    ],
)
def test_input_that_does_not_fit_is_said_to(features: Any, questions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nano_model()(torch.ones(features), torch.ones(questions, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": (0, 4)}, "order 4 does not fit a grid of 4x4 cells: choose orders from 0"),
        ({"orders": (-1,)}, "order -1 does not fit"),
        ({"orders": ()}, "one or more different numbers"),
        ({"orders": (1, 1)}, "one or more different numbers"),
        ({"routing": "loud"}, "routing='loud' is unknown; choose one of soft, hard"),
        ({"pooling": "max"}, "pooling='max' is unknown"),
        ({"evaluation": "random"}, "evaluation='random' is unknown"),
        ({"hidden": 9}, "hidden=9 is not divisible by heads=2"),
        ({"grid": 0, "orders": (0,)}, "grid=0 must be at least 1"),
        ({"tau_min": 0.0}, "0 < tau_min"),
        ({"dropout": 1.0}, "dropout=1.0 must be"),
    ],
)
def test_a_configuration_that_cannot_be_is_said_to(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nano_config(**changes)


def test_a_configuration_survives_its_dictionary() -> None:
    config = nano_config(routing="hard", orders=(0, 3))
    assert type(config).from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown fields wheels"):
        type(config).from_dict(config.to_dict() | {"wheels": 4})
    with pytest.raises(ValueError, match="answers missing"):
        type(config).from_dict({"words": 3})
