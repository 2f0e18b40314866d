"""Requests to captions: in order, one image pass an image, whatever the batches, workers and precision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from models.ofa import OFAModel
from models.ofa.generation import beam_search
from tasks.captioning.captioner import Captioner, plan_batches
from tasks.predicting import evaluating, merge, shard
from tests.models.nano import STYLES, nano_captioner, nano_model, nano_preprocessor, noisy_picture

SEARCH: dict[str, Any] = {
    "beam_size": 3,
    "max_len_b": 6,
    "min_len": 1,
    "no_repeat_ngram_size": 3,
    "length_penalty": 1.0,
    "progress": False,
}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return nano_captioner()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    return [noisy_picture(folder / f"{seed}.png", seed) for seed in range(4)]


@pytest.fixture(scope="module")
def samples(pictures: list[str]) -> list[Sample]:
    """Every picture in every style, those of one picture not together."""
    return [request(picture, style) for style in STYLES for picture in pictures]


def request(picture: str, style: str) -> Sample:
    return Sample(picture, Path(picture).stem, style, "", ())


def one_by_one(captioner: Captioner, samples: Sequence[Sample]) -> list[str]:
    """Each request alone, straight from the preprocessor to the search."""
    captions = []
    for sample in samples:
        item = captioner.preprocessor({"image": sample.image, "style": sample.style})
        found = beam_search(
            captioner.model,
            item["prompts"][0][None],
            item["patch_image"][None],
            None,
            **{key: SEARCH[key] for key in SEARCH if key != "progress"},
        )
        text = captioner.preprocessor.tokenizer.decode(found[0][0].tokens.tolist(), skip_special_tokens=True)
        captions.append(" ".join(str(text).split()))
    return captions


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_captions_equal_those_of_each_request_alone_in_order(
    captioner: Captioner, samples: list[Sample], batch_size: int
) -> None:
    expected = one_by_one(captioner, samples)
    assert len(set(expected)) > 4, "captions that are all alike could not show a mix-up"
    assert captioner.caption(samples, batch_size=batch_size, **SEARCH) == expected


def test_workers_change_nothing(captioner: Captioner, samples: list[Sample]) -> None:
    alone = captioner.caption(samples, batch_size=4, **SEARCH)
    assert captioner.caption(samples, batch_size=4, num_workers=2, **SEARCH) == alone


def test_the_same_request_twice_is_captioned_twice(captioner: Captioner, samples: list[Sample]) -> None:
    first, again, other = captioner.caption([samples[0], samples[0], samples[1]], batch_size=8, **SEARCH)
    assert first == again != other


def test_nothing_asked_nothing_written(captioner: Captioner) -> None:
    assert captioner.caption([], batch_size=4, **SEARCH) == []


def test_an_image_goes_through_the_tower_once(
    captioner: Captioner, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    tower = captioner.model.encoder.embed_images
    forward = tower.forward

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return forward(pixels)

    monkeypatch.setattr(tower, "forward", counted)
    captioner.caption(samples, batch_size=6, **SEARCH)
    assert seen == [2, 2]  # four images with three styles each, in batches of six captions


def test_a_blank_image_is_grey_for_every_picture_and_is_looked_at(captioner: Captioner, pictures: list[str]) -> None:
    asked = [request(picture, "Sweet") for picture in pictures]
    blank = captioner.caption(asked, batch_size=8, blank_images=True, **SEARCH)
    assert len(set(blank)) == 1
    item = captioner.preprocessor({"image": pictures[0], "style": "Sweet"})
    found = beam_search(
        captioner.model,
        item["prompts"][0][None],
        torch.zeros_like(item["patch_image"])[None],
        torch.tensor([True]),
        **{key: SEARCH[key] for key in SEARCH if key != "progress"},
    )
    text = captioner.preprocessor.tokenizer.decode(found[0][0].tokens.tolist(), skip_special_tokens=True)
    assert blank[0] == " ".join(str(text).split())


def test_style_names_forgive_case(captioner: Captioner, pictures: list[str]) -> None:
    as_listed, lower = captioner.caption(
        [request(pictures[0], "Cynical"), request(pictures[0], "cynical")], batch_size=2, **SEARCH
    )
    assert as_listed == lower


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_reduced_precision_runs_and_leaves_the_weights_alone(
    captioner: Captioner, samples: list[Sample], dtype: Any
) -> None:
    other = Captioner(captioner.model, captioner.preprocessor, dtype=dtype)
    captions = other.caption(samples[:3], batch_size=4, **SEARCH)
    assert all(isinstance(caption, str) for caption in captions)
    assert {parameter.dtype for parameter in captioner.model.parameters()} == {torch.float32}


# --- a model in training ---------------------------------------------------------------------------------------------


def test_a_model_in_training_is_left_as_it_was(samples: list[Sample]) -> None:
    preprocessor = nano_preprocessor()
    preprocessor.mode = "train"
    model = nano_model(len(preprocessor.tokenizer), dropout=0.5)
    captioner = Captioner(model, preprocessor)
    quiet = captioner.caption(samples[:4], batch_size=4, **SEARCH)
    model.train()
    model.encoder.embed_images.eval()  # as a trainer does that freezes the tower
    tower: Any = model.encoder.embed_images
    statistics = tower.bn1.running_mean
    before = statistics.clone()
    generator = torch.get_rng_state()
    assert captioner.caption(samples[:4], batch_size=4, **SEARCH) == quiet
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(statistics, before)
    assert model.training
    assert model.decoder.layers[0].training
    assert not model.encoder.embed_images.training
    assert preprocessor.mode == "train"


def test_the_mode_comes_back_after_an_error() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout()).train()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        1 / model[0].training  # 0 in evaluation mode
    assert model[0].training


# --- what a user can get wrong ---------------------------------------------------------------------------------------


def test_an_unknown_style_names_the_nearest(captioner: Captioner, pictures: list[str]) -> None:
    with pytest.raises(ValueError, match=r"unknown style 'Sinical': did you mean Cynical\?"):
        captioner.caption([request(pictures[0], "Sinical")], batch_size=1, **SEARCH)


def test_missing_images_are_named_before_the_work_begins(captioner: Captioner, pictures: list[str]) -> None:
    asked = [request(picture, "Sweet") for picture in [*pictures, "/nowhere/a.jpg", "/nowhere/b.jpg"]]
    with pytest.raises(ValueError, match=r"image /nowhere/a.jpg does not exist \(2 images are missing\): correct"):
        captioner.caption(asked, batch_size=1, **SEARCH)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_named_without_a_workers_traceback(
    captioner: Captioner, pictures: list[str], tmp_path: Path, num_workers: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(pictures[0]).read_bytes()[:60])
    asked = [request(pictures[1], "Sweet"), request(str(broken), "Sweet")]
    with pytest.raises(ValueError, match=r"^image \S*broken.png cannot be read"):
        captioner.caption(asked, batch_size=2, num_workers=num_workers, **SEARCH)


def test_a_batch_of_nothing_is_refused(captioner: Captioner, samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match=r"eval.batch_size is 0"):
        captioner.caption(samples, batch_size=0, **SEARCH)


def test_a_model_of_nans_writes_empty_captions(samples: list[Sample]) -> None:
    preprocessor = nano_preprocessor()
    model: OFAModel = nano_model(len(preprocessor.tokenizer))
    with torch.no_grad():
        model.decoder.layer_norm.weight.fill_(torch.nan)
    assert Captioner(model, preprocessor).caption(samples[:2], batch_size=2, **SEARCH) == ["", ""]


# --- plans and shards ------------------------------------------------------------------------------------------------


@given(images=st.lists(st.sampled_from("abcdef"), max_size=40), batch_size=st.integers(1, 9))
def test_a_plan_asks_for_every_row_once_and_keeps_images_whole(images: list[str], batch_size: int) -> None:
    batches = plan_batches(images, batch_size)
    groups = [group for batch in batches for group in batch]
    assert sorted(row for group in groups for row in group) == list(range(len(images)))
    assert all(sum(map(len, batch)) <= batch_size for batch in batches)
    assert all(batches)
    assert all(len({images[row] for row in group}) == 1 for group in groups)
    for image in set(images):
        assert sum(images[group[0]] == image for group in groups) == -(-images.count(image) // batch_size)


@given(items=st.lists(st.integers()), world=st.integers(1, 7))
def test_shards_are_even_and_merge_back(items: list[int], world: int) -> None:
    parts = [shard(items, rank, world) for rank in range(world)]
    assert merge(parts) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
