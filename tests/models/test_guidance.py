"""Guided decoding: the formula by hand, and a search that equals plain beam search where nothing guides."""

import math

import pytest
import torch

from models.ofa.generation import search_encoded
from models.ofa.guidance import Guide, guided_log_probs, search_guided
from tests.models.nano import nano_model, prompt_batch

SEARCH = {"beam_size": 3, "max_len_b": 6, "min_len": 1, "no_repeat_ngram_size": 3}


def strength(value: float, rows: int = 3) -> torch.Tensor:
    return torch.full((rows,), value)


def test_the_formula_by_hand():
    own = torch.tensor([[0.5, 0.3, 0.2]]).log()
    others = [torch.tensor([[0.8, 0.1, 0.1]]).log(), torch.tensor([[0.4, 0.3, 0.3]]).log()]
    # q = 0.6, 0.2, 0.2; p · (p / q) = 0.41667, 0.45, 0.2
    found = guided_log_probs(own, [(others, torch.ones(1))], 0.0).exp()
    expected = torch.tensor([[0.25 / 0.6, 0.45, 0.2]])
    torch.testing.assert_close(found, expected / expected.sum())
    # a second guide multiplies by (p / q) again, to the power of its strength
    second = torch.tensor([[0.5, 0.48, 0.02]]).log()
    found = guided_log_probs(own, [(others, torch.ones(1)), ([second], torch.tensor([2.0]))], 0.0).exp()
    expected = expected * torch.tensor([[1.0, (0.3 / 0.48) ** 2, 100.0]])
    torch.testing.assert_close(found, expected / expected.sum())


def test_each_row_has_its_own_strength():
    own = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    other = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()
    found = guided_log_probs(own, [([other], torch.tensor([0.0, 1.0]))], 0.0).exp()
    expected = torch.tensor([[0.6, 0.4], [0.4 / 2.0, 1.6 / 2.0]])
    torch.testing.assert_close(found, expected)


def test_implausible_tokens_are_left_out():
    own = torch.tensor([[0.6, 0.39, 0.01]]).log()
    other = torch.tensor([[0.6, 0.3999, 0.0001]]).log()
    found = guided_log_probs(own, [([other], torch.tensor([3.0]))], 0.1).exp()
    assert found[0, 2] == 0
    assert math.isclose(found.sum().item(), 1, rel_tol=1e-5)


def test_impossible_tokens_stay_impossible():
    own = torch.tensor([[0.0, -torch.inf]])
    assert guided_log_probs(own, [([own], torch.ones(1))], 0.0).tolist() == [[0.0, -torch.inf]]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_guidance_by_the_same_condition_changes_nothing(value):
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    plain = search_encoded(model, encoded, **SEARCH)
    guided = search_guided(model, encoded, [Guide([encoded], strength(value))], plausible=0.0, **SEARCH)
    for one, other in zip(plain, guided, strict=True):
        assert [found.tokens.tolist() for found in one] == [found.tokens.tolist() for found in other]
        scores = [torch.tensor([found.score for found in each]) for each in (one, other)]
        torch.testing.assert_close(*scores, rtol=0, atol=1e-5)


def test_guidance_moves_away_from_the_other_condition_where_it_is_asked_to():
    model = nano_model(40)
    batch = prompt_batch()
    encoded = model.encoder(**batch)
    other = model.encoder(batch["input_ids"].flip(0), batch["patch_images"], batch["patch_masks"])
    only_first = torch.tensor([5.0, 0.0, 0.0])
    plain = [found[0].tokens.tolist() for found in search_encoded(model, encoded, **SEARCH)]
    found = search_guided(model, encoded, [Guide([other], only_first)], plausible=0.0, **SEARCH)
    guided = [best[0].tokens.tolist() for best in found]
    assert guided[0] != plain[0]
    assert guided[1:] == plain[1:]


def test_a_share_outside_0_to_1_is_refused():
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    with pytest.raises(ValueError, match="plausible from 0 to 1"):
        search_guided(model, encoded, [], plausible=2.0, **SEARCH)
