"""A directory is written whole or not at all."""

import json
import os
import resource
from pathlib import Path

import pytest

from data.files import replacing_folder
from models.ofa import OFAModel
from models.ofa.checkpoints import load_model, save_directory
from models.ofa.saving import read_configuration
from models.ofa.styles import StyleMap
from tests.models.nano import nano_model
from tests.models.saved import GENERATION, assert_same_weights, save


def test_the_style_map_is_part_of_the_checkpoint(tmp_path, model, preprocessor):
    styles = StyleMap({"Sweet": "<code_5>", "Cynical": "<code_2>"}, "<code_7>")
    directory = tmp_path / "out"
    save_directory(
        directory,
        model,
        preprocessor.tokenizer,
        style_map=styles,
        preprocessor=preprocessor.settings,
        generation=GENERATION,
    )
    assert json.loads((directory / "style_map.json").read_text())["styles"] == dict(styles.tokens)


@pytest.mark.parametrize("formats", [("safetensors",), ("bin",)], ids="+".join)
def test_a_full_disk_leaves_the_old_checkpoint(saved, model, preprocessor, formats):
    other = nano_model(model.config.vocab_size, seed=9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # no file may grow over 1 MB
    try:
        with pytest.raises(OSError, match=r"MB are free there.*what was there before is untouched"):
            save(saved, other, preprocessor, formats=formats)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert_same_weights(load_model(saved), model)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("moment", ["fsync", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_a_failure_at_the_last_moment_leaves_the_old_checkpoint(saved, model, preprocessor, monkeypatch, moment, error):
    calls = []
    rename = Path.rename

    def fail(*_):
        calls.append("fsync")
        raise error

    def fail_the_second_time(path, target):
        calls.append("rename")
        if len(calls) == 2:
            raise error
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync", fail) if moment == "fsync" else (Path, "rename", fail_the_second_time)))
        with pytest.raises(type(error)):
            save(saved, nano_model(model.config.vocab_size, seed=9), preprocessor)

    assert calls
    assert_same_weights(load_model(saved), model)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_new_checkpoint_replaces_the_old_one_whole(saved, model, preprocessor):
    (saved / "left-over.txt").write_text("of the old one")
    other = nano_model(model.config.vocab_size, seed=9)

    save(saved, other, preprocessor, formats=("safetensors",))

    assert_same_weights(load_model(saved), other)
    assert not (saved / "left-over.txt").exists()
    assert not (saved / "pytorch_model.bin").exists()
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_process_killed_while_exchanging_loses_nothing(tmp_path):
    target = tmp_path / "best"
    (tmp_path / ".best.former").mkdir()
    (tmp_path / ".best.former" / "old").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), replacing_folder(target):
        raise RuntimeError("stop")
    assert (target / "old").read_text() == "old"


def test_settings_of_the_search_are_checked(tmp_path, model, preprocessor):
    with pytest.raises(ValueError, match="settings of generation are beam_size"):
        save(tmp_path / "out", model, preprocessor, generation={"beams": 3})
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path, preprocessor):
    with pytest.raises(ValueError, match="do not belong together"):
        save(tmp_path / "out", nano_model(100), preprocessor)


@pytest.mark.parametrize(
    "changes",
    [
        {"beam_size": 1, "length_penalty": 2.0},
        {"min_len": 0, "no_repeat_ngram_size": 0},
        {"no_end_after": ["a", "the"]},
    ],
)
def test_any_search_can_be_saved(tmp_path, model, preprocessor, changes):
    directory = save(tmp_path / "out", model, preprocessor, generation=GENERATION | changes)
    assert read_configuration(directory)["pipeline"]["generation"] == GENERATION | changes
    OFAModel.from_pretrained(directory)
