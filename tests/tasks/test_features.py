"""Kept features of a frozen tower stand in for images in training, validation and evaluation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config import Config, parse_config
from data.samples import Sample
from models.ofa.dropout import ChannelDropout
from models.ofa.resnet import ResNet, image_tower
from preprocessors.images import ImageTransform, load_image
from tasks.captioning import features as kept
from tasks.captioning.captioner import Captioner
from tasks.captioning.features import digest, feature_cache, tower_features
from tasks.captioning.records import open_split
from tasks.evaluating import run_evaluation
from tasks.training import prepare
from tests import nano_run as nano_run_module
from tests.models.nano import nano_captioner, nano_preprocessor, noisy_picture
from tests.nano_run import SEARCH, nano_run
from tests.trainers.nano import history, nano_config, nano_document, saved_weights, train
from trainers.distributed import World

FROZEN = ("train.freeze_resnet=true", "data.max_image_size=32")
KEPT = (*FROZEN, "data.cache_features=true")


def usual_captioner() -> Captioner:
    """`nano_captioner` with a tower as it starts: features of usual size."""
    captioner = nano_captioner()
    torch.manual_seed(3)
    captioner.model.encoder.embed_images = image_tower("resnet18").eval()
    return captioner


@pytest.fixture
def run_of_usual_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run with a checkpoint for pictures of 48 pixels, whose configuration says 64."""
    monkeypatch.setattr(nano_run_module, "nano_captioner", usual_captioner)
    return nano_run(tmp_path, data={"patch_image_size": 64, "max_image_size": 64})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of a tower had."""
    counted: list[int] = []
    forward = ResNet.forward

    def counting(self: ResNet, pixels: torch.Tensor) -> torch.Tensor:
        counted.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(ResNet, "forward", counting)
    return counted


def keeping_features(config: Config) -> Config:
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_features=True),
        train=dataclasses.replace(config.train, freeze_resnet=True),
    )


def test_a_run_computes_features_once_and_learns_the_same(demo: Path, tmp_path: Path, calls: list[int]) -> None:
    val = f"data.val={demo}/nano_val.json"
    plain = nano_config(demo, tmp_path / "plain", *FROZEN, val)
    train(plain)
    of_pixels = sum(calls)
    calls.clear()
    config = nano_config(demo, tmp_path / "kept", *KEPT, val)
    train(config)
    images = open_split(config, "val").n_images
    assert sum(calls) == 24 + images < of_pixels
    assert [loss for _, loss in history(config)] == pytest.approx([loss for _, loss in history(plain)], abs=2e-3)
    calls.clear()
    train(dataclasses.replace(config, work_dir=str(tmp_path / "kept")), resume=True)
    assert calls == []
    assert (tmp_path / "kept" / "cache" / "features-train-resnet18-32-1.bin").exists()
    assert saved_weights(config).keys() == saved_weights(plain).keys()


def test_a_mirrored_view_takes_the_place_of_a_flip(demo: Path, tmp_path: Path) -> None:
    sets = ("data.flip=true", "train.max_steps=3")
    losses = {}
    for name, switched in (("plain", FROZEN), ("kept", KEPT)):
        config = nano_config(demo, tmp_path / name, *switched, *sets)
        train(config)
        losses[name] = [loss for _, loss in history(config)]
    assert losses["kept"] == pytest.approx(losses["plain"], abs=2e-3)


def test_two_runs_may_share_a_folder(demo: Path, tmp_path: Path, calls: list[int]) -> None:
    sets = (*KEPT, f"data.feature_dir={tmp_path}/features", "train.max_steps=1")
    train(nano_config(demo, tmp_path / "a", *sets))
    calls.clear()
    train(nano_config(demo, tmp_path / "b", *sets))
    assert calls == []


def test_evaluation_looks_at_kept_features(run_of_usual_size: Config, calls: list[int]) -> None:
    config = run_of_usual_size
    plain = run_evaluation(config)
    calls.clear()
    config = keeping_features(config)
    assert run_evaluation(config)["CIDEr"] == pytest.approx(plain["CIDEr"], abs=0.05)
    assert sum(calls) == 2
    calls.clear()
    run_evaluation(config)
    assert calls == []
    run_evaluation(config, control="blank-image")
    assert calls


def test_features_are_those_of_the_checkpoint_s_own_picture_size(run_of_usual_size: Config) -> None:
    """What a checkpoint was trained with counts, not what the configuration says now."""
    config = keeping_features(run_of_usual_size)
    captioner = Captioner.from_directory(Path(config.work_dir) / "checkpoints" / "best")
    found = feature_cache(config, captioner.model, captioner.preprocessor, open_split(config, "val"), mirrored=False)
    assert found is not None
    assert found[open_split(config, "val")[0].image].shape == (1, 1024, 3, 3)


def test_pictures_without_features_are_loaded(tmp_path: Path) -> None:
    captioner = usual_captioner()
    pictures = [noisy_picture(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    samples = [Sample(picture, "", "Sweet", "", ()) for picture in pictures]
    plain = captioner.caption(samples, batch_size=4, progress=False, **SEARCH)
    captioner.features = kept.FeatureCache(
        tmp_path / "features.bin",
        pictures[:1],
        (1, 1024, 3, 3),
        "tower",
        tower_features(captioner.model.encoder.embed_images, ImageTransform(48, 48, train=False), mirrored=False),
    )
    assert captioner.caption(samples, batch_size=4, progress=False, **SEARCH) == plain
    assert captioner.caption(samples[:1], batch_size=4, progress=False, **SEARCH) == plain[:1]


def test_views_are_what_the_tower_makes_of_the_picture_and_of_its_mirror(tmp_path: Path) -> None:
    tower = usual_captioner().model.encoder.embed_images
    picture = noisy_picture(tmp_path / "a.png", 1)
    transform = ImageTransform(48, 48, train=False)
    made = tower_features(tower, transform, mirrored=True)([picture])
    pixels = transform(load_image(picture))[None]
    with torch.no_grad():
        for view, seen in enumerate((pixels, pixels.flip(-1))):
            np.testing.assert_allclose(made[0, view], tower(seen)[0].numpy(), rtol=1e-4, atol=1e-4)
    item = nano_preprocessor()({"image": made[0].astype(np.float16), "style": "Sweet"})
    np.testing.assert_allclose(item["patch_image"].numpy(), made[0, 0], rtol=1e-3, atol=1e-3)


def test_another_tower_has_another_name() -> None:
    tower = usual_captioner().model.encoder.embed_images
    before = digest(tower)
    assert digest(tower) == before
    with torch.no_grad():
        next(tower.parameters()).view(-1)[0] += 1
    assert digest(tower) != before


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.cache_features=true", "data.max_image_size=32"], "needs an image tower that does not change"),
        (["data.cache_features=true", "train.freeze_resnet=true"], "32 is a crop of data.max_image_size = 40"),
        ([*KEPT, "data.cache_images=true"], "leaves no image to load"),
        (["train.freeze_resnet=true", "train.tower_lr=1e-5"], "train.tower_lr trains the image tower"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, sets: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(nano_document(tmp_path, tmp_path), sets=sets)


def test_channels_are_dropped_whole_and_the_rest_is_scaled() -> None:
    dropout, ones = ChannelDropout(0.25), torch.ones(40, 50, 2, 3)
    torch.manual_seed(1)
    found = dropout(ones)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert bool((found == found[..., :1, :1]).all())
    assert found.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(dropout.eval()(ones), ones)


def test_dropped_channels_change_what_is_learnt(demo: Path, tmp_path: Path) -> None:
    losses: dict[str, Any] = {}
    for rate in ("0", "0.5"):
        config: Config = nano_config(demo, tmp_path / rate, *KEPT, f"train.feature_dropout={rate}", "train.max_steps=2")
        train(config)
        losses[rate] = history(config)
    assert losses["0"] != losses["0.5"]


def test_some_images_are_kept_from_the_model(demo: Path, tmp_path: Path) -> None:
    plain, config = (
        nano_config(demo, tmp_path / rate, *KEPT, "data.flip=true", f"train.image_dropout={rate}")
        for rate in ("0", "0.4")
    )
    shown = prepare(plain, World(), False).loop.items
    items = prepare(config, World(), False).loop.items
    masks = [items[index]["patch_mask"] for index in range(len(items))]
    assert 3 <= masks.count(False) <= 16
    assert [items[index]["patch_mask"] for index in range(len(items))] == masks
    for index in range(len(items)):
        assert torch.equal(items[index]["patch_image"], shown[index]["patch_image"])
    items.set_epoch(1)
    assert [items[index]["patch_mask"] for index in range(len(items))] != masks
    train(config)


def test_an_image_that_cannot_be_read_is_a_remark_in_its_row(run_of_usual_size: Config) -> None:
    config = keeping_features(run_of_usual_size)
    image = Path(open_split(config, "val")[0].image)
    image.write_bytes(b"no picture")
    assert run_evaluation(config)["unreadable_images"] == 1
    strict = dataclasses.replace(config, eval=dataclasses.replace(config.eval, strict=True, beam_size=1))
    with pytest.raises(ValueError, match=image.name):
        run_evaluation(strict)
