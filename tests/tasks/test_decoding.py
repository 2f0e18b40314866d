"""Guidance by configuration: off it changes nothing, on it depends on nothing but the request."""

from pathlib import Path
from typing import Any

import pytest
import torch

from data.samples import Sample
from models.ofa.guidance import Contrast, search_guided
from models.ofa.styles import StyleMap
from tasks.captioning import decoding
from tasks.captioning.captioner import Captioner
from tasks.captioning.decoding import MOST_STYLES, Guidance, other_styles
from tests.models.nano import STYLES, nano_captioner, noisy_picture

SEARCH: dict[str, Any] = {
    "beam_size": 3,
    "max_len_b": 6,
    "min_len": 1,
    "no_repeat_ngram_size": 3,
    "length_penalty": 1.0,
}
PLAIN = SEARCH | {"batch_size": 4, "progress": False}


@pytest.fixture(scope="module", params=["prompt", "decoder"])
def captioner(request: pytest.FixtureRequest) -> Captioner:
    """Of a model that reads the style in the prompt, and of one that starts captions with it."""
    return nano_captioner(place=request.param)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("pictures")
    pictures = [noisy_picture(folder / f"{seed}.png", seed) for seed in range(3)]
    return [Sample(picture, Path(picture).stem, style, "", ()) for picture in pictures for style in STYLES]


def test_no_guidance_changes_nothing(captioner: Captioner, samples: list[Sample]) -> None:
    plain = captioner.caption(samples, **PLAIN)
    assert captioner.caption(samples, style_guidance=0, image_guidance=0, **PLAIN) == plain
    assert captioner.caption(samples, style_guidance={"Sweet": 0.0}, **PLAIN) == plain


def test_only_the_styles_that_are_named_are_guided(captioner: Captioner, samples: list[Sample]) -> None:
    plain = captioner.caption(samples, **PLAIN)
    guided = captioner.caption(samples, style_guidance=4.0, **PLAIN)
    one = captioner.caption(samples, style_guidance={"cynical": 4.0}, **PLAIN)
    assert plain != guided
    for sample, was, everywhere, found in zip(samples, plain, guided, one, strict=True):
        assert found == (everywhere if sample.style == "Cynical" else was)


def test_a_guided_caption_is_the_same_whatever_else_is_asked_for(captioner: Captioner, samples: list[Sample]) -> None:
    settings = PLAIN | {"style_guidance": 3.0, "image_guidance": 1.0}
    together = captioner.caption(samples, **settings | {"batch_size": 100})
    assert [captioner.caption([sample], **settings)[0] for sample in samples] == together
    assert captioner.caption(samples, **PLAIN | {"style_guidance": 3.0}) != together


def test_the_search_goes_away_from_the_image_in_the_other_styles_and_from_no_image(
    captioner: Captioner, samples: list[Sample]
) -> None:
    """By hand, for one request."""
    model, builder = captioner.model, captioner.preprocessor.builder
    sample = samples[4]
    pixels = captioner.preprocessor({"image": sample.image, "style": sample.style})["patch_image"][None]

    def encoded(style: str, image: torch.Tensor | None = pixels) -> Any:
        row = model.encoder(builder.encode_prompt(builder.prompt.text(style))[None], image)
        return row.rows(torch.tensor([0]), torch.tensor([builder.start_token(style)]))

    others = [encoded(style) for style in STYLES if style != sample.style]
    with torch.no_grad():
        contrasts = [Contrast(others, 2.0), Contrast([encoded(sample.style, None)], 0.5)]
        found = search_guided(model, encoded(sample.style), contrasts, **SEARCH)
    expected = captioner.preprocessor.tokenizer.decode(found[0][0].tokens.tolist(), skip_special_tokens=True)
    (caption,) = captioner.caption([sample], style_guidance=2.0, image_guidance=0.5, **PLAIN)
    assert caption == " ".join(str(expected).split())


def test_other_styles_go_round_and_are_bounded() -> None:
    assert other_styles("b", "abc", 8) == ["c", "a"]
    assert other_styles("b", "abc", 1) == ["c"]
    assert other_styles("unknown", "abc", 2) == ["a", "b"]
    many = [str(number) for number in range(200)]
    assert len(other_styles("199", many, MOST_STYLES)) == MOST_STYLES


def test_what_cannot_be_guided_is_refused(captioner: Captioner, samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="unknown style 'Swet': did you mean Sweet"):
        captioner.caption(samples, style_guidance={"Swet": 1.0}, **PLAIN)
    with pytest.raises(ValueError, match="needs a model of at least two styles"):
        Guidance(0.3).check(StyleMap.from_styles(["Factual"]))
    Guidance(0.0, 0.3).check(StyleMap.from_styles(["Factual"]))


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_words_that_end_no_caption_reach_the_search_as_they_stand_in_captions(
    captioner: Captioner, samples: list[Sample], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "search_guided" if guidance else "search_encoded"
    search, seen = getattr(decoding, name), []

    def watched(*given: Any, **settings: Any) -> Any:
        seen.append(settings["leading"])
        return search(*given, **settings)

    monkeypatch.setattr(decoding, name, watched)
    captioner.write(samples, **PLAIN, style_guidance=guidance, no_end_after=["a", "the"])
    encode = captioner.preprocessor.tokenizer.encode_text
    assert seen
    for leading in seen:
        for word, tokens in zip(["a", "the"], leading, strict=True):
            assert encode(f"what {word}") == encode("what") + list(tokens)
