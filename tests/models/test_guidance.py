"""Guided decoding: the formula by hand, and a search that equals plain beam search where nothing guides."""

import math
from typing import Any

import pytest
import torch

from models.ofa.generation import search_encoded
from models.ofa.guidance import Contrast, guided_log_probs, search_guided
from tests.models.nano import nano_model, prompt_batch

SEARCH: dict[str, Any] = {"beam_size": 3, "max_len_b": 6, "min_len": 1, "no_repeat_ngram_size": 3}


def test_the_formula_by_hand():
    own = torch.tensor([[0.5, 0.3, 0.2]]).log()
    others = [torch.tensor([[0.8, 0.1, 0.1]]).log(), torch.tensor([[0.4, 0.3, 0.3]]).log()]
    # q = 0.6, 0.2, 0.2; p · (p / q) = 0.41667, 0.45, 0.2
    found = guided_log_probs(own, [(others, 1.0)], plausible=0.0).exp()
    expected = torch.tensor([[0.25 / 0.6, 0.45, 0.2]])
    torch.testing.assert_close(found, expected / expected.sum())


def test_two_contrasts_add_up():
    own = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]).log()
    first, second = torch.tensor([[0.2, 0.4, 0.4]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    strengths = torch.tensor([[1.0], [0.0]])
    found = guided_log_probs(own, [([first], strengths), ([second], 2.0)], plausible=0.0).exp()
    towards = torch.tensor([0.5 * 2**2, 0.3 * 0.6**2, 0.2 * 0.8**2])
    both = towards * torch.tensor([2.5, 0.75, 0.5])
    torch.testing.assert_close(found, torch.stack([both / both.sum(), towards / towards.sum()]))


def test_implausible_tokens_are_left_out():
    own = torch.tensor([[0.6, 0.39, 0.01]]).log()
    other = torch.tensor([[0.6, 0.3999, 0.0001]]).log()
    found = guided_log_probs(own, [([other], 3.0)], plausible=0.1).exp()
    assert found[0, 2] == 0
    assert math.isclose(found.sum().item(), 1, rel_tol=1e-5)


def test_what_may_not_follow_does_not_set_what_is_plausible():
    own = torch.tensor([[0.98, 0.015, 0.005]]).log()
    allowed = own.clone()
    allowed[0, 0] = -torch.inf
    found = guided_log_probs(own, [([own], 1.0)], plausible=0.5, allowed=allowed)
    assert found.isfinite().tolist() == [[True, True, False]]


def test_impossible_tokens_stay_impossible():
    own = torch.tensor([[0.0, -torch.inf]])
    assert guided_log_probs(own, [([own], 1.0)], plausible=0.0).tolist() == [[0.0, -torch.inf]]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_guidance_by_the_same_condition_changes_nothing(strength):
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    plain = search_encoded(model, encoded, **SEARCH)
    guided = search_guided(model, encoded, [Contrast([encoded], strength)], plausible=0.0, **SEARCH)
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
    plain = search_guided(model, encoded, [], **SEARCH)
    guided = search_guided(model, encoded, [Contrast([other], 5.0)], plausible=0.0, **SEARCH)
    assert [one[0].tokens.tolist() for one in plain] != [one[0].tokens.tolist() for one in guided]


def test_a_share_outside_0_to_1_is_refused():
    model = nano_model(40)
    encoded = model.encoder(**prompt_batch())
    with pytest.raises(ValueError, match="plausible from 0 to 1"):
        search_guided(model, encoded, [Contrast([encoded], 1.0)], plausible=2.0, **SEARCH)


def test_each_prompt_has_its_own_strength():
    model = nano_model(40)
    batch = prompt_batch()
    encoded = model.encoder(**batch)
    other = model.encoder(batch["input_ids"].flip(0), batch["patch_images"], batch["patch_masks"])
    at = {
        strength: search_guided(model, encoded, [Contrast([other], strength)], plausible=0.0, **SEARCH)
        for strength in (0.5, 5.0)
    }
    mixed = search_guided(model, encoded, [Contrast([other], torch.tensor([5.0, 0.5, 5.0]))], plausible=0.0, **SEARCH)
    for row, strength in enumerate((5.0, 0.5, 5.0)):
        expected, found = at[strength][row], mixed[row]
        assert [one.tokens.tolist() for one in found] == [one.tokens.tolist() for one in expected]
