"""Decoding does not wait for the device in every step, and says the same as if it did."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.ofa import OFAModel
from models.ofa.beams import LOOK_EVERY, look_every
from models.ofa.generation import beam_search, sample
from models.ofa.guidance import Contrast, search_guided
from tests.models.nano import EOS, Batch, nano_model, prompt_batch
from tests.waits import Waits, look_rarely

VOCAB = 40
SEARCH: dict[str, Any] = {"beam_size": 3, "max_len_b": 12, "min_len": 1, "no_repeat_ngram_size": 3}


@pytest.fixture(scope="module")
def model() -> OFAModel:
    """Its captions end after few and after many words."""
    model = nano_model(VOCAB)
    with torch.no_grad():
        model.encoder.embed_tokens.weight[EOS] *= 3
    return model


@pytest.fixture(scope="module")
def batch() -> Batch:
    return prompt_batch()


def searched(model: OFAModel, batch: Batch) -> Any:
    return plain(beam_search(model, **batch, **SEARCH))


def guided(model: OFAModel, batch: Batch) -> Any:
    with torch.no_grad():
        own, other = model.encoder(**batch), model.encoder(batch["input_ids"].flip(0))
    strength = torch.tensor([0.5, 0.0, 1.0])
    return plain(search_guided(model, own, [Contrast([other], strength)], **SEARCH))


def sampled(model: OFAModel, batch: Batch) -> Any:
    drawn = sample(
        model, **batch, num_samples=3, max_len_b=12, temperature=0.8, generator=torch.Generator().manual_seed(3)
    )
    return drawn.tokens.tolist(), drawn.log_probs.tolist()


def plain(found: Any) -> Any:
    return [[(h.tokens.tolist(), h.score, h.ended) for h in hypotheses] for hypotheses in found]


@pytest.mark.parametrize("decode", [searched, guided, sampled])
@pytest.mark.parametrize("every", [2, 4, 100])
def test_looking_rarely_at_what_has_ended_changes_nothing(
    model: OFAModel, batch: Batch, monkeypatch: pytest.MonkeyPatch, decode: Callable[..., Any], every: int
) -> None:
    expected = decode(model, batch)
    look_rarely(monkeypatch, every)
    if decode is sampled:
        assert decode(model, batch) == expected
        return
    for hypotheses, others in zip(decode(model, batch), expected, strict=True):
        assert [(tokens, ended) for tokens, _, ended in hypotheses] == [(tokens, ended) for tokens, _, ended in others]
        # Other rows are decoded beside them, which may round otherwise.
        assert [score for _, score, _ in hypotheses] == pytest.approx([score for _, score, _ in others], abs=1e-5)


@pytest.mark.parametrize(("decode", "numbers"), [(searched, 0), (guided, 2), (sampled, 2)])
def test_between_looks_nothing_waits(
    model: OFAModel, batch: Batch, monkeypatch: pytest.MonkeyPatch, decode: Callable[..., Any], numbers: int
) -> None:
    """Numbers that are read: on a CPU the encoder's look for padding, where nobody says; a sample's length."""
    look_rarely(monkeypatch, 100)
    with Waits() as waits:
        decode(model, batch | {"padded": True} if decode is searched else batch)
    assert waits.found == ["_local_scalar_dense"] * numbers


def test_a_cpu_looks_at_every_step_and_a_gpu_does_not() -> None:
    assert look_every(torch.device("cpu")) == 1
    assert look_every(torch.device("cuda", 0)) == LOOK_EVERY > 1
