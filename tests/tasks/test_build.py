"""How a run is put together: its style tokens, what it takes from a checkpoint, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data import read_split
from models.ofa.checkpoints import load_model
from models.ofa.styles import StyleMap, style_words
from tasks.captioning.build import build_model
from tasks.training import run_training
from tests.trainers.nano import (
    STYLES,
    assert_equal,
    nano_config,
    train,
)

# --- styles ----------------------------------------------------------------------------------------------------------


def nano_train_split(demo: Path) -> Any:
    return read_split(
        "train",
        format="personality",
        annotations=str(demo / "nano_train.json"),
        image_dir=str(demo / "images"),
        styles=str(demo / "styles.txt"),
    )


def test_style_tokens_start_from_their_words(demo, tmp_path):
    model, preprocessor = build_model(nano_config(demo, tmp_path), nano_train_split(demo), None)
    weight, tokenizer = model.get_input_embeddings().weight, preprocessor.tokenizer
    means = []
    for name, token_id in preprocessor.style_map.token_ids(tokenizer).items():
        means.append(weight[tokenizer.encode_text(f" {style_words(name)}")].mean(0))
        torch.testing.assert_close(weight[token_id], means[-1])
    unknown = tokenizer.convert_tokens_to_ids(preprocessor.style_map.unknown)
    torch.testing.assert_close(weight[unknown], torch.stack(means).mean(0))


@pytest.fixture
def former(demo, tmp_path):
    """The directory of a model that was trained in `STYLES`, and its weights."""
    config = nano_config(demo, tmp_path / "former", "train.max_steps=1")
    train(config)
    return Path(config.work_dir) / "checkpoints" / "last"


FROM_CHECKPOINT = ("model.vocabulary=null", "model.config={}")


def test_fine_tuning_keeps_the_checkpoint_s_styles(demo, tmp_path, former):
    """Another order of the style list, one style fewer: tokens and their vectors stay."""
    (tmp_path / "styles.txt").write_text("\n".join(reversed(STYLES)) + "\n")
    sets = (*FROM_CHECKPOINT, f"model.checkpoint={former}", f"data.styles={tmp_path}/styles.txt", "train.max_steps=1")
    config = nano_config(demo, tmp_path / "run", *sets)
    model, preprocessor = build_model(config, nano_train_split(demo), None)
    assert dict(preprocessor.style_map.tokens) == {"Factual": "<code_0>", "Cynical": "<code_1>"}
    kept = load_model(former).state_dict()
    state = model.state_dict()
    unknown = preprocessor.tokenizer.convert_tokens_to_ids(preprocessor.style_map.unknown)
    for table in (name for name in kept if "embed_tokens" in name or "output_projection" in name):
        kept[table][unknown] = state[table][unknown]  # it starts anew from the mean of all styles
    assert_equal(state, kept)
    train(config)
    assert StyleMap.from_json(Path(config.work_dir) / "checkpoints" / "last" / "style_map.json").tokens == (
        preprocessor.style_map.tokens
    )


def test_a_token_that_changes_its_style_starts_anew(demo, tmp_path, former):
    (tmp_path / "map.json").write_text(json.dumps({"Factual": "<code_0>", "Romantic": "<code_1>"}))
    records = json.loads((demo / "nano_train.json").read_text())
    records = [
        {**record, "personality": {"Cynical": "Romantic"}.get(record["personality"], "Factual")} for record in records
    ]
    (tmp_path / "train.json").write_text(json.dumps(records))
    sets = (f"model.checkpoint={former}", f"style.style_map={tmp_path}/map.json", f"data.train={tmp_path}/train.json")
    config = nano_config(demo, tmp_path / "run", *FROM_CHECKPOINT, *sets, "data.styles=null")
    split = read_split("train", **config.reader_arguments("train"))
    model, preprocessor = build_model(config, split, None)
    weight, before = model.get_input_embeddings().weight, load_model(former).get_input_embeddings().weight
    ids = preprocessor.style_map.token_ids(preprocessor.tokenizer)
    assert torch.equal(weight[ids["Factual"]], before[ids["Factual"]])
    words = preprocessor.tokenizer.encode_text(" romantic")
    torch.testing.assert_close(weight[ids["Romantic"]], before[words].mean(0))


def test_a_style_that_the_checkpoint_does_not_know(demo, tmp_path, former):
    config = nano_config(
        demo,
        tmp_path / "run",
        *FROM_CHECKPOINT,
        f"model.checkpoint={former}",
        f"data.train={demo}/train.json",
        f"data.styles={demo}/personalities.txt",
    )
    with pytest.raises(ValueError, match="unknown style 'Humorous'"):
        run_training(config, resume=False)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["train.batch_size=25"], "one update takes 25 items .* only 24: lower train.batch_size"),
        (['model.config={"d_modle": 32}'], r"model\.config\.d_modle is no field of OFAConfig; did you mean d_model\?"),
        (["train.dtype=float16"], r'train\.dtype = "float16" needs a GPU'),
        (["data.train=/no/such.json"], r"/no/such\.json"),
        (["data.image_dir=/no/such"], r"/no/such: the image folder does not exist"),
        (["data.image_dir=conf"], r"split train has faults: 24 missing \(such as conf/.*skip_bad=true"),
        (["data.image_dir=conf", "data.skip_bad=true"], "every caption is at fault"),
    ],
)
def test_refusals(demo, tmp_path, sets, message):
    with pytest.raises(ValueError, match=message):
        run_training(nano_config(demo, tmp_path, *sets), resume=False)
    assert not (tmp_path / "checkpoints").exists()


def test_empty_split(demo, tmp_path):
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(ValueError, match=r"empty"):
        run_training(nano_config(demo, tmp_path / "run", f"data.train={tmp_path}/empty.json"), resume=False)


@pytest.fixture
def with_a_truncated_image(demo, tmp_path):
    """The rendered images with one of the first 24 cut off; its name."""
    shutil.copytree(demo / "images", tmp_path / "images")
    name = json.loads((demo / "nano_train.json").read_text())[0]["image_hash"]
    file = tmp_path / "images" / f"{name}.jpg"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(OSError, match="truncated"), Image.open(file) as image:
        image.load()
    return f"data.image_dir={tmp_path}/images", name


def test_a_truncated_image_is_refused(demo, tmp_path, with_a_truncated_image):
    setting, name = with_a_truncated_image
    with pytest.raises(ValueError, match=rf"split train has faults: 1 truncated \(such as .*{name}\.jpg.*doctor"):
        run_training(nano_config(demo, tmp_path / "run", setting), resume=False)


def test_a_truncated_image_is_skipped_when_asked(demo, tmp_path, with_a_truncated_image, caplog):
    setting, _ = with_a_truncated_image
    sets = (setting, "data.skip_bad=true", "train.batch_size=23", "train.max_epochs=1")
    with caplog.at_level("WARNING", "stylecap"):
        assert run_training(nano_config(demo, tmp_path / "run", *sets), resume=False)["step"] == 1
    assert "split train: skipped captions: {'truncated': 2}" in caplog.text
