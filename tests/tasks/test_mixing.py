"""Captions in mixed, stronger and described styles."""

import dataclasses
from pathlib import Path

import pytest
import torch

from data.samples import Sample
from tasks.captioning.captioner import Captioner
from tests.models.nano import nano_captioner, noisy_picture
from tests.tasks.test_captioner import SEARCH

SETTINGS = SEARCH | {"batch_size": 4}


@pytest.fixture
def captioner() -> Captioner:
    found = nano_captioner()
    with torch.no_grad():  # styles that are heard in so small a model
        for token in found.preprocessor.style_map.token_ids(found.preprocessor.tokenizer).values():
            found.model.encoder.embed_tokens.weight[token] *= 4
    return found


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return noisy_picture(tmp_path / "a.png", 1)


def captions(captioner: Captioner, picture: str, *styles: str, **settings: object) -> list[str]:
    samples = [Sample(picture, "a", style, "", ()) for style in styles]
    return captioner.caption(samples, **SETTINGS | settings)


def test_weight_one_is_the_style_itself_and_plain_styles_stay_as_they_are(captioner, picture):
    plain = captions(captioner, picture, "Sweet", "Cynical")
    assert plain[0] != plain[1]
    mixed = captions(captioner, picture, "1*Sweet", "Cynical", "0*Sweet + 1*cynical", "0.5*Sweet + 0.5*Cynical")
    assert mixed[:3] == [*plain, plain[1]]
    assert captioner.model.encoder.own_embeddings is None
    assert captions(captioner, picture, "Sweet", "Cynical") == plain


def test_styles_that_a_caption_starts_with_are_mixed_as_well(captioner, picture):
    builder = captioner.preprocessor.builder
    in_decoder = dataclasses.replace(builder.prompt, place="decoder")
    captioner.preprocessor.builder = dataclasses.replace(builder, prompt=in_decoder, _encoded={})
    # So small a model writes its style's token again, which is another one than that of a mixture to the limits.
    plain = captions(captioner, picture, "Sweet", "Cynical", no_repeat_ngram_size=0)
    assert plain[0] != plain[1]
    assert captions(captioner, picture, "1*Sweet", "0*Sweet + 1*cynical", no_repeat_ngram_size=0) == plain
    assert captions(captioner, picture, "2*Sweet", no_repeat_ngram_size=1)
    guided = captions(captioner, picture, "1*Sweet", "Sweet", style_guidance=3.0)
    assert guided[0]
    assert captioner.model.decoder.own_embeddings is None


def test_intensity_is_of_all_requests(captioner, picture):
    asked = captions(captioner, picture, "2.5*Sweet", "2.5*Cynical")
    assert captions(captioner, picture, "Sweet", "Cynical", style_intensity=2.5) == asked
    none = captions(captioner, picture, "Sweet", "Cynical", "Humorous", style_intensity=0.0)
    assert len(set(none)) == 1


def test_workers_guidance_and_descriptions(captioner, picture):
    styles = ("1.5*Sweet", "description: gloomy day", "Sweet")
    plain = captions(captioner, picture, *styles)
    assert captions(captioner, picture, *styles, num_workers=1) == plain
    guided = captions(captioner, picture, "1*Sweet", "Sweet", style_guidance={"sweet": 3.0})
    assert guided[0] == guided[1]
    assert captions(captioner, picture, "description: gloomy day", style_guidance=2.0)


def test_bad_input(captioner, picture):
    with pytest.raises(ValueError, match="did you mean Sweet"):
        captions(captioner, picture, "0.5*Swet")
    assert captioner.model.encoder.own_embeddings is None
    builder = captioner.preprocessor.builder
    words = dataclasses.replace(builder.prompt, tokenize_style=False)
    captioner.preprocessor.builder = dataclasses.replace(builder, prompt=words)
    with pytest.raises(ValueError, match="cannot be mixed"):
        captions(captioner, picture, "0.5*Sweet")
