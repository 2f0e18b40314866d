"""What is found before the first update, and before captions are written, not hours later."""

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from config import Config
from data.samples import Row, Split
from preprocessors.style_tasks import StyleTasks
from tasks.captioning.requests import check_judging, check_lengths, check_references, check_requests
from tests.models.nano import nano_model, nano_preprocessor
from tests.nano_run import nano_run, records


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def split(name: str, *captions: tuple[str, str]) -> Split:
    rows = [Row(f"{i}.png", str(i), style, text) for i, (style, text) in enumerate(captions)]
    return Split(name, ["Sweet", "Cynical", "Humorous"], rows)


def check(config: Config, tmp_path: Path, **splits: Split) -> None:
    preprocessor = nano_preprocessor()
    model = nano_model(len(preprocessor.tokenizer))
    preprocessor.builder = preprocessor.builder.within(model.config.max_position_embeddings)
    check_requests(config, model, preprocessor, {"train": split("train", ("Sweet", "a cat")), **splits})


def test_a_sound_run_passes(tmp_path: Path):
    check(nano_run(tmp_path, checkpoint=False), tmp_path, val=split("val", ("Sweet", "a cat")))


def test_a_validation_style_that_training_does_not_know(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown style 'Sweat': did you mean Sweet"):
        check(nano_run(tmp_path, checkpoint=False), tmp_path, val=split("val", ("Sweat", "a cat")))


@pytest.mark.parametrize("key", ["eval.max_len_b", "scst.max_len_b"])
def test_captions_longer_than_the_position_table(tmp_path: Path, key: str):
    section, name = key.split(".")
    config = changed(nano_run(tmp_path, checkpoint=False), section, **{name: 5000})
    config = changed(config, "train", objective="scst")
    with pytest.raises(ValueError, match=f"{key} = 5000, but the model has positions for"):
        check(config, tmp_path)


def test_a_validation_image_without_a_reference_that_says_anything(tmp_path: Path):
    with pytest.raises(ValueError, match=r"split val: image 1 has only empty references in style Cynical"):
        check(nano_run(tmp_path, checkpoint=False), tmp_path, val=split("val", ("Sweet", "a cat"), ("Cynical", " ")))
    check_references(split("val", ("Sweet", "...")))


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_split_that_is_configured_and_not_there(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture):
    config = changed(nano_run(tmp_path, checkpoint=False), "data", **{name: str(tmp_path / "gone.json")})
    logging.getLogger("stylecap").propagate = True
    if name == config.eval.split:
        with pytest.raises(ValueError, match=r"gone.json: no such annotation file, and eval.split is val"):
            check(config, tmp_path)
    else:
        check(config, tmp_path)
        assert "the split test cannot be evaluated" in caplog.text


# --- lengths ---------------------------------------------------------------------------------------------------------


def test_a_caption_longer_than_the_model_is_cut_and_said(caplog: pytest.LogCaptureFixture):
    logging.getLogger("stylecap").propagate = True
    preprocessor = nano_preprocessor()
    preprocessor.builder = preprocessor.builder.within(20)
    check_lengths(["a cat", "x" * 100, "zebra " * 20], preprocessor, 20)
    assert "2 training captions have over 19 tokens and are cut" in caplog.text
    assert len(preprocessor.builder.encode_target("x" * 100)) == 20
    preprocessor.mode = "train"  # which makes the builder anew
    assert len(preprocessor.builder.encode_target("x" * 100)) == 20


@pytest.mark.parametrize("place", ["encoder", "decoder"])
@pytest.mark.parametrize("task", ["mask_style", "mask_caption", "matching"])
def test_a_question_that_is_too_long_is_an_error(task: str, place: str):
    preprocessor = nano_preprocessor()
    on: dict[str, Any] = {task: True, "place": place}
    preprocessor.tasks = StyleTasks(**on, mask_ratio=0.3)
    check_lengths(["a cat"], preprocessor, 200)
    with pytest.raises(ValueError, match=r"a question about the training caption 'xxx.* has \d+ tokens, and the model"):
        check_lengths(["x" * 400 + " and a cat"], preprocessor, 200)


@pytest.mark.parametrize("task", ["mask_style", "mask_caption", "matching"])
def test_no_question_is_longer_than_the_longest(task: str):
    preprocessor = nano_preprocessor()
    on: dict[str, Any] = {task: True}
    tasks = StyleTasks(**on, mask_ratio=0.4)
    builder = preprocessor.builder
    caption = builder.target_text("a very red catastrophe on the mat of zebras")

    def count(text: str) -> int:
        return len(preprocessor.tokenizer.encode_text(text))

    import torch

    [longest] = map(count, tasks.longest(caption, builder.prompt, count))
    generator = torch.Generator().manual_seed(0)
    asked = [tasks.questions([("Sweet", caption)], builder.prompt, generator, caption)[0].text for _ in range(100)]
    assert max(map(count, asked)) <= longest
    assert longest - max(map(count, asked)) <= 2


# --- before captions are written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["training captions", "references", "Java", "folder"])
def test_what_scores_need_is_there_before_a_caption_is_written(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tasks.captioning.task import TASK

    config = nano_run(tmp_path)
    message = ""
    if fault == "training captions":
        (tmp_path / "train.json").write_text("[{")
        message = "train.json: broken JSON"
    elif fault == "references":
        (tmp_path / "val.json").write_text(json.dumps([one | {"comment": " "} for one in plain_records()]))
        message = "only empty references"
    elif fault == "Java":
        config = changed(config, "eval", scorer="pycocoevalcap")
        monkeypatch.setenv("PATH", "/nowhere")
        message = "needs Java"
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
        message = "is not writable"
    with pytest.raises((ValueError, OSError), match=message):
        check_judging(config, TASK.read(config, "val"))


def plain_records() -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "additional_comments"} for one in records(list("45"))]
