"""Guided decoding: the formula by hand, and a search that equals plain beam search where nothing guides."""

import math

import pytest
import torch

from models.ofa.generation import search_encoded
from models.ofa.guidance import guided_log_probs, search_guided
from tests.models.nano import nano_model, prompt_batch

SEARCH = {"beam_size": 3, "max_len_b": 6, "min_len": 1, "no_repeat_ngram_size": 3}


def test_the_formula_by_hand():
    own = torch.tensor([[0.5, 0.3, 0.2]]).log()
    others = [torch.tensor([[0.8, 0.1, 0.1]]).log(), torch.tensor([[0.4, 0.3, 0.3]]).log()]
    # q = 0.6, 0.2, 0.2; p · (p / q) = 0.41667, 0.45, 0.2
    found = guided_log_probs(own, others, strength=1.0, plausible=0.0).exp()
    expected = torch.tensor([[0.25 / 0.6, 0.45, 0.2]])
    torch.testing.assert_close(found, expected / expected.sum())


def test_implausible_tokens_are_left_out():
    own = torch.tensor([[0.6, 0.39, 0.01]]).log()
    other = torch.tensor([[0.6, 0.3999, 0.0001]]).log()
    found = guided_log_probs(own, [other], strength=3.0, plausible=0.1).exp()
    assert found[0, 2] == 0
    assert math.isclose(found.sum().item(), 1, rel_tol=1e-5)


def test_impossible_tokens_stay_impossible():
    own = torch.tensor([[0.0, -torch.inf]])
    assert guided_log_probs(own, [own], strength=1.0, plausible=0.0).tolist() == [[0.0, -torch.inf]]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_guidance_by_the_same_condition_changes_nothing(strength):
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    plain = search_encoded(model, encoded, **SEARCH)
    guided = search_guided(model, encoded, [encoded], strength=strength, plausible=0.0, **SEARCH)
    for one, other in zip(plain, guided, strict=True):
        assert [hypothesis.tokens.tolist() for hypothesis in one] == [
            hypothesis.tokens.tolist() for hypothesis in other
        ]
        torch.testing.assert_close(
            torch.tensor([hypothesis.score for hypothesis in one]),
            torch.tensor([hypothesis.score for hypothesis in other]),
            rtol=0,
            atol=1e-5,
        )


def test_guidance_moves_away_from_the_other_condition():
    model = nano_model(40)
    batch = prompt_batch()
    encoded = model.encoder(**batch)
    other = model.encoder(batch["input_ids"].flip(0), batch["patch_images"], batch["patch_masks"])
    plain = search_guided(model, encoded, [other], strength=0.0, **SEARCH)
    guided = search_guided(model, encoded, [other], strength=5.0, plausible=0.0, **SEARCH)
    assert [one[0].tokens.tolist() for one in plain] != [one[0].tokens.tolist() for one in guided]


def test_a_share_outside_0_to_1_is_refused():
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    with pytest.raises(ValueError, match="plausible from 0 to 1"):
        search_guided(model, encoded, [encoded], strength=1.0, plausible=2.0, **SEARCH)
