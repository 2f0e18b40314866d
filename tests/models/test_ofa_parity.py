"""Our OFA against golden outputs of ModelScope's, with the same weights and inputs; its state dict at every size."""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ofa import PRESETS, OFAConfig, OFAModel, preset_config
from models.ofa.generation import beam_search
from tests.conftest import SHARED, needs_shared
from tests.parity.conftest import parity_weights

CASES = ("nano", "nano_scaled_embed", "nano_vocab24", "tiny")
TOLERANCE = 1e-4
SEARCHES: dict[str, dict[str, Any]] = {
    "beam5": {"beam_size": 5, "max_len_b": 16, "min_len": 1, "no_repeat_ngram_size": 3},
    "beam3_minlen4": {"beam_size": 3, "max_len_b": 10, "min_len": 4, "no_repeat_ngram_size": 0},
    "greedy": {"beam_size": 1, "max_len_b": 12, "min_len": 1, "no_repeat_ngram_size": 3},
}


@dataclass
class Case:
    """A golden case: what was written down of the reference, and our model with the same weights."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    model: OFAModel
    input_ids: Tensor
    pixels: Tensor


def facts_of(name: str) -> dict[str, Any]:
    return json.loads((SHARED / "parity" / f"{name}.json").read_text())


@cache
def case(name: str) -> Case:
    facts = facts_of(name)
    with np.load(SHARED / "parity" / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    model = OFAModel(OFAConfig(**facts["config"], dropout=0.0)).eval()
    parity_weights().fill(model)
    pixels = parity_weights().pixels_for(tuple(facts["pixel_shape"]))
    return Case(facts, arrays, model, torch.from_numpy(arrays["input_ids"]), pixels)


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_logits_equal_the_reference(name: str) -> None:
    golden = case(name)
    present = torch.ones(len(golden.pixels), dtype=torch.bool)
    with torch.no_grad():
        output = golden.model(
            golden.input_ids, golden.pixels, present, torch.from_numpy(golden.arrays["decoder_input_ids"])
        )
    hidden = output.encoder_last_hidden_state[:, :: golden.facts["encoder_stride"]].numpy()
    logits = output.logits[..., :: golden.facts["logits_stride"]].numpy()
    np.testing.assert_allclose(hidden, golden.arrays["encoder_last_hidden_state"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(logits, golden.arrays["logits"], rtol=0, atol=TOLERANCE)


@needs_shared
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", CASES)
def test_beam_search_equals_the_reference(name: str, search: str) -> None:
    golden = case(name)
    expected = golden.facts["beams"][search]
    found = beam_search(golden.model, golden.input_ids, golden.pixels, None, **SEARCHES[search])
    assert [[h.tokens.tolist() for h in row] for row in found] == [[h["tokens"] for h in row] for row in expected]
    scores = [h.score for row in found for h in row]
    assert scores == pytest.approx([h["score"] for row in expected for h in row], abs=TOLERANCE)


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_keys_and_shapes_equal_the_reference(name: str) -> None:
    facts = facts_of(name)
    assert shapes(OFAConfig(**facts["config"])) == facts["keys"]


# --- the public sizes ------------------------------------------------------------------------------------------------
# The files hold the keys of small models only. What a key's shape depends on is worked out from three of them, whose
# vocabulary, width, hidden width and heads all differ, and written out for the sizes of OFA's paper (table 1).

WITNESSES = ("nano", "nano_scaled_embed", "tiny")
SYMBOLS = ("vocab_size", "d_model", "encoder_ffn_dim", "encoder_attention_heads")
PUBLISHED = {
    "tiny": (256, 4, 4, 4, (3, 4, 6)),
    "medium": (512, 4, 4, 8, (3, 4, 23)),
    "base": (768, 6, 6, 12, (3, 4, 23)),
    "large": (1024, 12, 12, 16, (3, 8, 36)),
    "huge": (1280, 24, 12, 16, (3, 8, 36)),
}


def shapes(config: OFAConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        model = OFAModel(config)
    return {key: list(tensor.shape) for key, tensor in model.state_dict().items()}


def template(key: str) -> str:
    """The key with its layer's number as `#`; the first block of a ResNet stage, unlike the others, keeps its 0."""
    key = re.sub(r"(embed_images\.layer\d\.)[1-9]\d*", r"\1#", key)
    return re.sub(r"((?:coder\.layers|pos_table_list)\.)\d+", r"\1#", key)


def rule(name: str) -> list[int | str]:
    """The dimensions of a template: a number where all witnesses agree, else the field that explains them."""
    configs = [facts_of(witness)["config"] for witness in WITNESSES]
    seen = [{template(key): shape for key, shape in facts_of(witness)["keys"].items()}[name] for witness in WITNESSES]
    dimensions: list[int | str] = []
    for values in zip(*seen, strict=True):
        if len(set(values)) == 1:
            dimensions.append(values[0])
        else:
            (symbol,) = [s for s in SYMBOLS if [config[s] for config in configs] == list(values)]
            dimensions.append(symbol)
    return dimensions


def expected_shapes(preset: str) -> dict[str, list[int]]:
    width, encoder_layers, decoder_layers, heads, blocks = PUBLISHED[preset]
    sizes = dict(zip(SYMBOLS, (59457, width, 4 * width, heads), strict=True))
    expected: dict[str, list[int]] = {}
    for name in {template(key): None for witness in WITNESSES for key in facts_of(witness)["keys"]}:
        shape = [d if isinstance(d, int) else sizes[d] for d in rule(name)]
        stage = re.search(r"embed_images\.layer(\d)\.#", name)
        layers = encoder_layers if name.startswith("encoder") else decoder_layers
        numbers = range(1, blocks[int(stage[1]) - 1]) if stage else range(layers)
        expected |= {name.replace("#", str(i)): shape for i in numbers}
    return expected


@needs_shared
@pytest.mark.parametrize("preset", PUBLISHED)
def test_each_preset_has_the_keys_and_shapes_of_its_size(preset: str) -> None:
    assert shapes(preset_config(preset)) == expected_shapes(preset)


def test_no_preset_is_left_out() -> None:
    assert set(PUBLISHED) == set(PRESETS)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'giant'.*tiny, medium, base, large, huge"):
        preset_config("giant")
