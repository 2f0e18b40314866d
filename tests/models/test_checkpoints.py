"""Weights in every format, from every program that writes them, and where they are looked for."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

from models.ofa import OFAModel, OFATokenizer, preset_config
from models.ofa.checkpoints import (
    load_model,
    read_state_dict,
)
from models.ofa.conversion import find_preset, inferred_fields
from models.ofa.saving import read_configuration
from models.sources import resolve_source
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tests.conftest import SHARED, needs_shared
from tests.models.saved import COMPUTED, GENERATION, assert_same_weights, rewrite, save

FORMATS = [("safetensors",), ("bin",), ("safetensors", "bin")]
HUB = "modelscope.hub.snapshot_download"  # a function of that name hides the module from `import`


def fairseq_name(name: str) -> str:
    """The inverse of what the reader does, written out by hand from fairseq's OFA."""
    side, _, rest = name.partition(".")
    if side == "encoder":
        rest = rest.replace("self_attn_mid_layer_norm", "attn_ln")
    else:
        rest = rest.replace("self_attn_mid_layer_norm", "self_attn_ln")
        rest = rest.replace("cross_attn_mid_layer_norm", "cross_attn_ln")
        rest = rest.replace("cross_attn_layer_norm", "encoder_attn_layer_norm").replace("cross_attn.", "encoder_attn.")
    return f"{side}.{rest.replace('ffn_layer_norm', 'ffn_layernorm')}"


def fairseq_state(model: OFAModel) -> dict[str, Tensor]:
    state = {fairseq_name(name): tensor for name, tensor in model.state_dict().items()}
    version = torch.tensor([3.0])
    tail = torch.full((1,), 1024)  # fairseq's OFA appends one place more than ModelScope's
    codes = torch.cat([state["decoder.image_position_idx"], tail])
    return state | {"encoder.version": version, "decoder.version": version, "decoder.image_position_idx": codes}


@pytest.mark.parametrize("formats", FORMATS, ids="+".join)
def test_every_format_gives_the_same_bits_back(tmp_path, model, preprocessor, formats):
    directory = save(tmp_path / "out", model, preprocessor, formats=formats)

    loaded = load_model(directory)

    assert_same_weights(loaded, model)
    assert not loaded.training
    assert loaded.decoder.output_projection.weight is loaded.encoder.embed_tokens.weight
    assert (directory / "model.safetensors").exists() == ("safetensors" in formats)
    assert (directory / "pytorch_model.bin").exists() == ("bin" in formats)


def test_safetensors_are_preferred_and_hold_tied_weights_once(saved, model):
    names = load_file(saved / "model.safetensors").keys()
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight"}
    assert tied & names == {"encoder.embed_tokens.weight"}

    (saved / "pytorch_model.bin").write_bytes(b"not looked at")
    assert_same_weights(load_model(saved), model)


def test_transformers_reads_the_directory(saved, model, preprocessor):
    result: Any = OFAModel.from_pretrained(saved, output_loading_info=True)
    loaded, info = result

    assert not any(info.values())
    assert_same_weights(loaded, model)
    assert loaded.generation_config.num_beams == 3
    assert AutoConfig.from_pretrained(saved).to_dict() == loaded.config.to_dict()
    assert_same_weights(AutoModel.from_pretrained(saved), model)
    for auto in (AutoTokenizer, AutoProcessor):  # there is no processor of images: the second gives the tokenizer, too
        assert auto.from_pretrained(saved).encode_text(" a cat") == preprocessor.tokenizer.encode_text(" a cat")


def test_a_configuration_of_ofa_sys_is_read(saved, model):
    """With what its transformers of 2022 wrote beside the fields of today."""
    path = saved / "config.json"
    extras = {"num_hidden_layers": 2, "torch_dtype": "float16", "use_cache": True, "_name_or_path": "x", "id2label": {}}
    fields = {name: value for name, value in json.loads(path.read_text()).items() if name != "dtype"}
    path.write_text(json.dumps(fields | extras))

    loaded = load_model(saved)

    assert loaded.dtype == torch.float32
    assert_same_weights(loaded, model)


@needs_shared
def test_names_and_shapes_of_modelscopes_own_model_are_read(tmp_path):
    case = json.loads((SHARED / "parity" / "nano.json").read_text())
    state = {name: torch.full(shape, 0.5) for name, shape in case["keys"].items() if not name.endswith(COMPUTED)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ofa", **case["config"]}))
    torch.save(state, tmp_path / "pytorch_model.bin")

    loaded = load_model(tmp_path).state_dict()

    assert loaded.keys() == case["keys"].keys()
    assert all((loaded[name] == 0.5).all() for name in state)


def test_what_transformers_writes_is_read(tmp_path, model):
    model.save_pretrained(tmp_path)
    assert_same_weights(load_model(tmp_path), model)


def test_vocabulary_styles_and_settings_come_back(saved, preprocessor):
    read = OfaStylishImageCaptioningPreprocessor.from_model_dir(saved)

    assert read.settings == preprocessor.settings
    assert read.style_map == preprocessor.style_map
    assert OFATokenizer.from_pretrained(saved).get_vocab() == preprocessor.tokenizer.get_vocab()
    assert read_configuration(saved)["pipeline"]["generation"] == GENERATION


def test_configuration_of_another_program_is_refused(saved):
    (saved / "configuration.json").write_text('{"model": {"type": "ofa"}}')
    with pytest.raises(ValueError, match=r'configuration.json: model.type is not "stylecap-ofa"'):
        read_configuration(saved)


def test_overrides_win_over_the_directory(saved):
    assert load_model(saved, config_overrides={"dropout": 0.3}).config.dropout == 0.3


def test_half_precision_weights_load_as_float32(saved, model):
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    rewrite(saved, state)

    loaded = load_model(saved)

    assert loaded.dtype == torch.float32
    assert torch.equal(
        loaded.encoder.image_proj.weight.half(),
        state["encoder.image_proj.weight"],
    )


def test_tables_that_are_not_learnt_may_be_absent(saved, model):
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(COMPUTED)}
    rewrite(saved, state)

    assert_same_weights(load_model(saved), model)


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.module."])
def test_names_inside_a_wrapper_are_found(tmp_path, model, prefix):
    path = tmp_path / "weights.bin"
    torch.save({"state_dict": {prefix + name: value for name, value in model.state_dict().items()}}, path)
    assert read_state_dict(path).keys() == model.state_dict().keys()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_fairseq_checkpoint_loads_without_being_told_its_size(tmp_path, model, zipped):
    path = tmp_path / "ofa.pt"
    arguments = argparse.Namespace(arch="ofa_nano", scale_attn=True)
    content = {"args": None, "cfg": {"model": arguments, "common": {"seed": 7}}, "model": fairseq_state(model)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    loaded = load_model(path, config_overrides={"dropout": 0.0})

    assert_same_weights(loaded, model)
    for field in ("vocab_size", "d_model", "encoder_layers", "decoder_attention_heads", "encoder_ffn_dim"):
        assert getattr(loaded.config, field) == getattr(model.config, field)
    assert (loaded.config.image_bucket_size, loaded.config.token_bucket_size) == (8, 16)


def test_a_file_that_is_not_ofa_says_so(tmp_path):
    path = tmp_path / "bert.pt"
    torch.save({"model": {"embeddings.word_embeddings.weight": torch.zeros(3, 4)}}, path)
    with pytest.raises(ValueError, match=r"bert.pt: these are not the weights of an OFA .*embeddings.word_embeddings"):
        load_model(path)


@pytest.mark.parametrize("preset", ["tiny", "medium", "base", "large", "huge"])
def test_the_shapes_tell_the_preset(preset):
    config = preset_config(preset)
    with torch.device("meta"):
        state = OFAModel(config).state_dict()

    fields = inferred_fields(state)

    assert find_preset(fields) == preset
    assert {name: getattr(config, name) for name in fields} == fields
    assert {"max_position_embeddings", "image_bucket_size", "token_bucket_size", "share_attn_bias"} <= fields.keys()


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[tuple[str, str | None]]:
    """What would have been downloaded; the test runs in an empty folder."""
    calls: list[tuple[str, str | None]] = []

    def download(model_id: str, revision: str | None = None) -> str:
        calls.append((model_id, revision))
        return str(tmp_path / "cache")

    monkeypatch.setattr(import_module(HUB), "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_hub_id_is_downloaded(asked, tmp_path):
    assert resolve_source("damo/ofa_pretrain_base_en", "v1.0.2") == tmp_path / "cache"
    assert asked == [("damo/ofa_pretrain_base_en", "v1.0.2")]


def test_an_existing_path_is_taken_as_it_is(asked, tmp_path):
    (tmp_path / "damo" / "model").mkdir(parents=True)
    (tmp_path / "x.pt").touch()
    assert resolve_source("damo/model") == Path("damo/model")
    assert resolve_source(tmp_path / "x.pt") == tmp_path / "x.pt"
    assert not asked


@pytest.mark.parametrize(
    "name",
    ["./a", "../b/c", "/a/b", "~/x", "a/b/c", "weights/ofa.pt", "model.safetensors", "base", "", "runs/best", "a b/c"],
)
def test_a_missing_path_never_asks_the_hub(asked, tmp_path, name):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="does not exist: name a directory"):
        resolve_source(name or "missing", None)
    assert not asked


def test_a_failed_download_is_one_sentence(asked, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(import_module(HUB), "snapshot_download", fail)
    with pytest.raises(
        ValueError, match=r"damo/x \(revision v2\) is no local path, and could not be downloaded .*no route"
    ):
        resolve_source("damo/x", "v2")
