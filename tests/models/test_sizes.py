"""Configurations that ask for more than their file holds: refused before anything is built."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.lxmert.checkpoints import load_model as load_lxmert
from models.lxmert.modeling import LxmertForAnswers
from models.ofa.checkpoints import load_model
from models.ofa.configuration import PRESETS, numbers_of, preset_config
from models.ofa.modeling import OFAModel
from models.sizes import check_size, stored_numbers
from tests.models.small_lxmert import config


def change(folder: Path, **fields: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        {"vocab_size": 10**12},
        {"encoder_layers": 10**9},
        {"decoder_layers": 10**6},
        {"d_model": 2**20},
        {"encoder_ffn_dim": 2**40},
        {"max_position_embeddings": 2**40},
        {"image_bucket_size": 10**5},
        {"token_bucket_size": 2**40},
        {"code_image_size": 10**7},
        {"orig_patch_image_size": 10**7, "interpolate_position": True},
        {"encoder_attention_heads": 2**10, "d_model": 2**20},
    ],
)
def test_a_configuration_that_asks_for_too_much(saved: Path, fields: dict[str, Any]):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"describes a model of .* numbers, but the weights hold") as caught:
        load_model(change(saved, **fields))
    assert time.monotonic() - started < 5
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"vocab_size": -1}, {"encoder_layers": 0}, {"d_model": -32}, {"image_bucket_size": 0}, {"d_model": True}]
)
def test_sizes_below_one(saved: Path, fields: dict[str, Any]):
    with pytest.raises(ValueError, match=r"whole number|divisible|[Vv]alidation|must be|config.json"):
        load_model(change(saved, **fields))


@pytest.mark.parametrize("name", PRESETS)
def test_the_estimate_is_that_of_the_public_sizes(name: str):
    config = preset_config(name)
    with torch.device("meta"):
        model = OFAModel(config)
    built = sum(tensor.numel() for tensor in model.state_dict(keep_vars=True).values())
    assert 0.6 * built < numbers_of(config) + 43e6 < 1.5 * built  # the image tower aside: some 43 million


def test_a_tensor_that_repeats_one_number_does_not_count_as_many():
    state = {"a": torch.zeros(1).expand(2**40), "b": torch.zeros(3), "c": torch.zeros(6)[:2]}
    assert stored_numbers(state) == 1 + 3 + 6
    with pytest.raises(ValueError, match="but the weights hold 10"):
        check_size(2**40, state)


@pytest.mark.parametrize("fields", [{"vocab_size": 2**40}, {"l_layers": 10**9}, {"hidden_size": 2**20}])
def test_lxmert_is_asked_as_well(tmp_path: Path, fields: dict[str, Any]):
    model = LxmertForAnswers(config())
    model.config.save_pretrained(tmp_path)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"describes a model of .* numbers, but the weights hold"):
        load_lxmert(change(tmp_path, **fields))
