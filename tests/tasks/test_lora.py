"""Adapters: trained in place of the weights, resumed, evaluated, exported with and without their model."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import finetune
from models.ofa.adapters import ADAPTER_CONFIG, ADAPTER_FILE, LoraSettings, add_lora, is_adapter
from models.ofa.checkpoints import load_model
from serving.sharing import export_run, import_archive
from tasks.captioning.captioner import Captioner
from tasks.evaluating import run_evaluation
from tasks.training import prepare
from tests.models.nano import nano_model, noisy_picture
from tests.trainers.nano import assert_equal, history, nano_config, nano_document, train, write_annotations
from trainers.distributed import World

pytestmark = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs EXTRAS=lora")
LORA = 'train.lora={"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "fc1"], "dropout": 0.1}'


QUICK = ("eval.bootstrap=0", "eval.meteor=false", "eval.spice=false", "eval.sentence_encoder=null")


def folder(config, name: str = "last") -> Path:
    return Path(config.work_dir) / "checkpoints" / name


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    """A finished run, and its trainer."""
    config = nano_config(demo, tmp_path_factory.mktemp("lora"), LORA, "train.lr=3e-3")
    return config, train(config)


def test_adapters_and_style_tokens_are_trained_and_nothing_else(run):
    config, trainer = run
    model = trainer.loop.model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name or name.endswith("trainable_tokens_delta.default") for name in trained)
    assert sum("tokens_delta" in name for name in trained) == 1
    losses = [loss for _, loss in history(config)]
    assert losses[-1] < losses[0]
    # What every layer was frozen at, statistics of batch normalisation among them, is what the run began with.
    began = prepare(nano_config_like(config), World(), False).loop.model.state_dict()
    ended = model.state_dict()
    moved = {name for name, tensor in ended.items() if not torch.equal(tensor, began[name])}
    assert moved
    assert not [name for name in moved if ".lora_" not in name and "tokens_delta" not in name]
    assert any("running_mean" in name for name in ended)
    for part in (".lora_A.", ".lora_B.", "encoder.embed_tokens.token_adapter.trainable_tokens_delta"):
        assert any(part in name for name in moved), part


def nano_config_like(config):
    """The configuration of the same run from its beginning, elsewhere."""
    from dataclasses import replace

    return replace(config, work_dir=config.work_dir + "_again")


def test_a_checkpoint_is_small_and_its_model_is_kept_once(run):
    config, _ = run
    names = {path.name for path in folder(config).iterdir()}
    assert {ADAPTER_FILE, ADAPTER_CONFIG, "style_map.json", "config.json", "training_state.pt"} <= names
    assert "model.safetensors" not in names
    assert (folder(config, "base") / "model.safetensors").is_file()
    assert (folder(config) / ADAPTER_FILE).stat().st_size < 0.1 * (
        folder(config, "base") / "model.safetensors"
    ).stat().st_size
    assert json.loads((folder(config) / ADAPTER_CONFIG).read_text())["base_model_name_or_path"] == "../base"


def batch_of(trainer):
    loop = trainer.loop
    batch = loop.collate([loop.items[index] for index in range(4)])
    names = ("input_ids", "patch_images", "patch_masks", "image_index", "decoder_input_ids", "encoder_index")
    return {name: batch[name] for name in names}


def test_merged_weights_say_what_the_adapted_model_says(run, tmp_path):
    config, trainer = run
    model, batch = trainer.loop.model.eval(), batch_of(trainer)
    exported = load_model(export_run(config.work_dir, str(tmp_path / "model"), checkpoint=str(folder(config))))
    with torch.no_grad():
        expected, merged = model(**batch).logits, exported(**batch).logits
        base = load_model(folder(config, "base"))(**batch).logits
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5)
    assert (base - expected).abs().max() > 1e-2
    assert exported.state_dict().keys() == load_model(folder(config, "base")).state_dict().keys()
    assert all(parameter.requires_grad for parameter in exported.encoder.layers.parameters())


def test_the_adapter_alone_is_what_peft_reads(run, tmp_path):
    import peft

    config, trainer = run
    out = export_run(config.work_dir, str(tmp_path / "adapter.tar.gz"), checkpoint=str(folder(config)), adapter=True)
    alone = import_archive(str(out), str(tmp_path / "adapter"))
    assert is_adapter(alone)
    assert not (alone / "model.safetensors").exists()
    assert "LoRA adapter" in (alone / "README.md").read_text()
    model, batch = trainer.loop.model.eval(), batch_of(trainer)
    theirs = peft.PeftModel.from_pretrained(load_model(folder(config, "base")), str(alone)).eval()
    with torch.no_grad():
        expected = model(**batch).logits
        torch.testing.assert_close(theirs(**batch).logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(load_model(alone)(**batch).logits, expected, rtol=0, atol=1e-5)


def test_interrupted_equals_uninterrupted(demo, tmp_path):
    whole, parts = (nano_config(demo, tmp_path / name, LORA) for name in ("whole", "parts"))
    train(whole)
    train(parts, interrupt=3)
    train(parts, resume=True)
    assert history(parts) == history(whole)
    assert_equal(*(load_file(folder(config) / ADAPTER_FILE) for config in (parts, whole)))


def test_validation_and_eval_read_adapters(demo, tmp_path):
    document = nano_document(demo, tmp_path)
    document["data"]["val"] = str(write_annotations(demo, "val", 3))
    (tmp_path / "conf.json").write_text(json.dumps(document))
    command = ["--conf", str(tmp_path / "conf.json"), "--set", LORA, "--set", "train.max_steps=2"]
    assert finetune.main([*command, "train"]) == 0
    from config import load_config

    config = load_config(tmp_path / "conf.json", [LORA, "train.max_steps=2", *QUICK])
    scores = run_evaluation(config)
    assert scores["CIDEr"] == pytest.approx(history(config, "val/CIDEr")[-1][1], abs=1e-9)
    picture = noisy_picture(tmp_path / "a.png", 1)
    [written] = Captioner.from_directory(folder(config)).caption([picture])
    assert set(written) == {"Cynical", "Factual"}


def test_step_2_trains_an_adapter_on_top_of_step_1s(demo, run, tmp_path):
    step1, _ = run
    config = nano_config(
        demo, tmp_path, LORA, "train.objective=scst", f"model.checkpoint={folder(step1)}", "model.vocabulary=null",
        "model.config={}", "scst.max_len_b=3", "scst.num_candidates=2", "scst.kl_weight=0.1", "train.max_steps=2",
    )  # fmt: skip
    trainer = train(config)
    assert [step for step, _ in history(config)] == [1, 2]
    # Step 1 added to its weights is what step 2's adapter belongs to.
    merged, base = load_model(folder(step1)).state_dict(), load_model(folder(config, "base")).state_dict()
    rows = trainer.loop.model.peft_config["default"].trainable_token_indices
    assert rows
    assert_equal(base, merged)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ('{"rank": 4, "targets": ["q_prj"]}', r'"q_prj" matches no module; .* fc1, fc2, image_proj, k_proj'),
        ('{"rank": 4, "targets": ["conv1"]}', r'"conv1" matches encoder\.embed_images\S+, which is not adapted'),
        ('{"rank": 4, "targets": ["embed_tokens"]}', r"which is not adapted"),
    ],
)
def test_a_target_that_is_no_linear_layer_is_named_with_those_that_are(demo, tmp_path, lora, words):
    with pytest.raises(ValueError, match=words):
        prepare(nano_config(demo, tmp_path, f"train.lora={lora}"), World(), False)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (['train.lora={"alpha": 4}'], r"train\.lora\.rank = null"),
        (['train.lora={"rank": 4, "size": 2}'], r"train\.lora\.size is no setting"),
        (['train.lora={"rank": 4, "dropout": 1}'], r"train\.lora\.dropout"),
        (['train.lora={"rank": 4, "alpha": 0}'], r"train\.lora\.alpha"),
        (['train.lora={"rank": 4, "targets": "q_proj"}'], r"train\.lora\.targets"),
        ([LORA, "train.freeze_embeddings=true"], r"train\.freeze_embeddings contradicts"),
        ([LORA, "train.sharding=fsdp"], r"train\.sharding"),
    ],
)
def test_settings_that_cannot_be(demo, tmp_path, sets, words):
    with pytest.raises(ValueError, match=words):
        nano_config(demo, tmp_path, *sets)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="make install EXTRAS=lora"):
        add_lora(nano_model(330), LoraSettings(), {})


def test_an_adapter_without_its_model_and_a_model_without_adapter(run, tmp_path):
    config, _ = run
    alone = export_run(config.work_dir, str(tmp_path / "alone"), checkpoint=str(folder(config)), adapter=True)
    content = json.loads((alone / ADAPTER_CONFIG).read_text())
    (alone / ADAPTER_CONFIG).write_text(json.dumps(content | {"base_model_name_or_path": "some/where"}))
    with pytest.raises(ValueError, match="adapter of the model 'some/where', which is no folder here"):
        load_model(alone)
    with pytest.raises(ValueError, match="holds no adapter"):
        export_run(config.work_dir, str(tmp_path / "none"), checkpoint=str(folder(config, "base")), adapter=True)
