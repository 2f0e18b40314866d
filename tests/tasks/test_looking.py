"""Where a model looks for each word of a caption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.ofa.attention import OFAAttention
from models.ofa.looking import cross_attention
from tasks.captioning.captioner import Captioner
from tests.models.nano import close, nano_captioner, nano_model, prompt_batch


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return nano_captioner()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_attention_mixes_values_by_its_weights() -> None:
    torch.manual_seed(0)
    attention = OFAAttention(width=8, heads=2, dropout=0.0, scale_factor=2.0).eval()
    states, source, bias = torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.randn(3, 2, 4, 5)
    bias[0, :, :, 4] = torch.finfo(torch.float32).min  # padding
    keys_values = attention.keys_values(source)
    weights = attention.weights(states, keys_values, bias).detach()
    assert weights.shape == (3, 2, 4, 5)
    close(weights.sum(-1), torch.ones(3, 2, 4))
    assert float(weights[0, :, :, 4].max()) == 0
    mixed = (weights @ keys_values[1]).transpose(1, 2) * attention.c_attn.view(1, 1, -1, 1)
    close(attention.out_proj(mixed.flatten(2)), attention(states, keys_values, bias))


def test_attention_of_a_decoder_is_the_mean_of_its_last_layers_and_heads() -> None:
    model = nano_model(40, decoder_layers=3)
    batch = prompt_batch()
    encoded = model.encoder(**batch)
    captions = torch.tensor([[0, 4, 5, 6]] * 3)
    weights = cross_attention(model, encoded, captions)
    assert weights.shape == (3, 4, encoded.last_hidden_state.shape[1])
    close(weights.sum(-1), torch.ones(3, 4))
    assert float(weights[2, :, :12].max()) == 0  # the third prompt has no image
    seen: list[torch.Tensor] = []
    hooks = [
        layer.cross_attn.register_forward_pre_hook(lambda module, args: seen.append(module.weights(*args)))
        for layer in model.decoder.decoder_layers
    ]
    with torch.no_grad():
        model.decode(encoded, captions, None)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3
    close(weights, (seen[1].mean(1) + seen[2].mean(1)) / 2)
    cross_attention(model, encoded, captions)
    assert len(seen) == 3  # nothing watches on


def test_each_word_has_its_place_in_the_picture(captioner: Captioner, picture: np.ndarray) -> None:
    found = captioner.looked_at(picture, "Sweet", "A red cat, unmistakably!")
    assert [one.word for one in found] == ["A", "red", "cat", "unmistakably"]
    for one in found:
        assert one.cells.shape == (3, 3)  # 48 pixels in steps of 16
        assert float(one.cells.sum()) == pytest.approx(1, abs=1e-4)
        assert 0 < one.share < 1
    assert not np.allclose(found[0].cells, found[2].cells, atol=1e-5)


def test_what_comes_later_does_not_matter_and_the_style_does(captioner: Captioner, picture: np.ndarray) -> None:
    long = captioner.looked_at(picture, "Sweet", "a red cat on a mat")
    short = captioner.looked_at(picture, "Sweet", "a red cat")
    for one, other in zip(short, long[:3], strict=True):
        np.testing.assert_allclose(one.cells, other.cells, atol=1e-4)
    strong = captioner.looked_at(picture, "8*Sweet - 4*Cynical", "a red cat")
    assert not np.allclose(strong[0].cells, short[0].cells, atol=1e-5)
    assert captioner.model.encoder.own_embeddings is None


def test_captions_that_cannot_be_followed(captioner: Captioner, picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no words"):
        captioner.looked_at(picture, "Sweet", " ?! ")
    with pytest.raises(ValueError, match="did you mean Sweet"):
        captioner.looked_at(picture, "Swet", "a cat")
    with pytest.raises(ValueError, match="does not exist"):
        captioner.looked_at(tmp_path / "none.png", "Sweet", "a cat")
