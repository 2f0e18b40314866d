"""The flat keys of older configuration files."""

from pathlib import Path
from typing import Any

import pytest

from config import FLAT, Config, parse_config
from tests.test_config import PHOTOS

OLD = {
    "model_name": "damo/ofa_pretrain_base_en",
    "model_revision": "v1.0.2",
    "tokenize_style": False,
    "img_addr": "yfcc_images/",
    "dataset_path": "personality_captions/",
    "file_attr": ".png",
    "train_json": "train.json",
    "val_json": "val.json",
    "test_json": "test.json",
    "work_dir": "out/",
    "prompt": " say it in a {} way.",
}


def test_every_flat_key_of_older_files() -> None:
    config = parse_config(OLD)
    assert set(OLD) == {*FLAT, "dataset_path", "work_dir"}
    assert (config.model.checkpoint, config.model.revision) == ("damo/ofa_pretrain_base_en", "v1.0.2")
    assert (config.style.tokenize_style, config.style.prompt) == (False, " say it in a {} way.")
    assert (config.data.image_dir, config.data.image_suffix, config.work_dir) == ("yfcc_images/", ".png", "out/")
    files = (config.data.train, config.data.val, config.data.test)
    assert files == tuple(f"personality_captions/{name}.json" for name in ("train", "val", "test"))
    assert config.data.format == "personality"


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_prompts_and_revisions_of_older_files_mean_the_default(empty: str | None) -> None:
    config = parse_config({**OLD, "prompt": empty, "model_revision": empty})
    assert config.style.prompt == Config().style.prompt
    assert config.model.revision is None


@pytest.mark.parametrize(
    ("name", "checkpoint"),
    [
        ("tiny", "damo/ofa_pretrain_tiny_en"),
        ("ofa_pretrain_large_en", "damo/ofa_pretrain_large_en"),
        ("runs/mine", "runs/mine"),
        ("ofa_here", "ofa_here"),
    ],
)
def test_model_names_are_sizes_hub_names_or_folders(tmp_path, monkeypatch, name: str, checkpoint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ofa_here").mkdir()
    assert parse_config({**OLD, "model_name": name}).model.checkpoint == checkpoint


def test_image_suffixes_get_their_dot() -> None:
    assert parse_config({**OLD, "file_attr": "jpg"}).data.image_suffix == ".jpg"
    assert parse_config({**OLD, "file_attr": ""}).data.image_suffix == ""


def test_the_style_list_beside_the_annotations_is_used(tmp_path: Path) -> None:
    assert parse_config({**OLD, "dataset_path": str(tmp_path)}).data.styles is None
    listed = str(tmp_path / "personalities.txt")
    Path(listed).write_text("Sweet\n")
    assert parse_config({**OLD, "dataset_path": str(tmp_path)}).data.styles == listed
    assert parse_config({**OLD, "dataset_path": str(tmp_path), "data": {"styles": "mine"}}).data.styles == "mine"


def test_flat_and_sectioned_keys_may_agree_but_not_differ() -> None:
    assert parse_config({**OLD, "data": {"image_dir": "yfcc_images/"}}).data.image_dir == "yfcc_images/"
    with pytest.raises(ValueError, match="the same setting; keep one of them") as error:
        parse_config({**OLD, "data": {"image_dir": "elsewhere"}})
    assert 'data.image_dir = "elsewhere" and img_addr = "yfcc_images/"' in str(error.value)


def test_overrides_reach_flat_keys_and_win_over_them() -> None:
    assert parse_config(OLD, sets=["data.image_dir=x"]).data.image_dir == "x"
    assert parse_config(OLD, sets=["img_addr=x"]).data.image_dir == "x"
    assert parse_config(OLD, sets=["dataset_path=/new"]).data.val == "/new/val.json"
    assert parse_config(OLD, sets=["data.train=t.json"]).data.train == "t.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_addr": 3}, "img_addr: data.image_dir = 3 must be string"),
        ({"tokenize_style": "yes"}, "tokenize_style: style.tokenize_style"),
        ({"dataset_path": 3}, "dataset_path = 3"),
        ({"prompt": " plain"}, "style.prompt"),
    ],
)
def test_flat_keys_are_checked_too(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        parse_config({**OLD, **changes})
    assert message in str(error.value)


def test_a_folder_without_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="dataset_path is the folder of train_json"):
        parse_config({**PHOTOS, "dataset_path": "x"})
