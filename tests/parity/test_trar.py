"""TRAR against the public code (rentainhe/TRAR-VQA): networks, masks, parts, names of published weights."""

import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch

from models.trar import TrarConfig, TrarModel
from models.trar.blocks import AttentionPool, FeedForward
from models.trar.checkpoints import load_published, read_published, write_published
from models.trar.configuration import PUBLISHED_FORMS, published_settings
from models.trar.elementwise import LayerNorm
from models.trar.layers import RoutedAttention
from models.trar.published import inferred_settings
from models.trar.spans import outside_window, padding_of
from tests.parity.conftest import Golden
from tests.parity.trar_nets import apart, golden_config, golden_model, tensors, weight

CLOSE, CLOSE_ALPHA = 1e-5, 2e-6


def _has(*names: str) -> Any:
    return lambda content: isinstance(content, dict) and all(name in content for name in names)


NETWORKS = pytest.mark.goldens("vqa_*", "clevr_*", system="trar", when=_has("config", "keys", "img_out_stride"))


@NETWORKS
def test_networks(golden: Golden) -> None:
    case, arrays = golden.json, golden.arrays
    model = golden_model(case["config"], case["keys"])
    model.train(case["config"]["mode"] == "train")
    model.tau = case["config"]["tau"]
    noise = torch.from_numpy(arrays["gumbel"]) if "gumbel" in arrays else None
    with torch.no_grad():
        out = model(*tensors(arrays, "features", "questions"), noise=noise)
    assert apart(out.logits, arrays["logits"]) <= CLOSE
    assert apart(out.language, arrays["lang_out"]) <= CLOSE
    assert apart(out.image[:, :: case["img_out_stride"]], arrays["img_out"]) <= CLOSE
    assert apart(out.alphas, arrays["alphas"]) <= CLOSE_ALPHA
    exactly = case["config"]["BINARIZE"] and not model.training
    assert apart(out.used, arrays["alphas_used"]) <= (0 if exactly else CLOSE_ALPHA)
    assert out.logits.argmax(-1).tolist() == case["argmax"]


@pytest.mark.goldens("vqa_*", "clevr_*", system="trar", when=lambda case: _has("att_layer0_sample1")(case))
def test_attention_maps(golden: Golden) -> None:
    case, arrays = golden.json, golden.arrays
    maps = {name: re.fullmatch(r"att_layer(\d+)_sample(\d+)", name) for name in arrays}
    model = golden_model(case["config"], case["keys"]).eval()
    features, questions = tensors(arrays, "features", "questions")
    for name, match in maps.items():
        if match is None:
            continue
        layer, sample = int(match[1]), int(match[2])
        seen: list[torch.Tensor] = []
        block = model.backbone.get_submodule(f"dec_list.{layer}.mhatt1")
        assert isinstance(block, RoutedAttention)
        handle = block.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(features, questions)
            handle.remove()
            found = block.maps(seen[0], model.route(padding_of(features)))[sample]
        assert apart(found, arrays[name]) <= CLOSE


@NETWORKS
def test_a_published_file_of_each_network_loads_and_is_written_back(golden: Golden, tmp_path) -> None:
    case = golden.json
    model = golden_model(case["config"], case["keys"])
    write_published(tmp_path / "epoch3.pkl", model, optimizer=None, lr_base=1e-4, epoch=3)
    told = ("grid", "orders", "routing", "binarize", "tau_max", "tau_min", "heads", "dropout")
    settings = {name: value for name, value in published_settings(case["config"]).items() if name in told}
    again = load_published(tmp_path / "epoch3.pkl", **settings)
    assert again.config == model.config
    assert again.tau == model.config.tau_min
    content = read_published(tmp_path / "epoch3.pkl")
    assert (content.lr_base, content.epoch) == (1e-4, 3)
    assert list(content.state) == list(case["keys"])
    assert all(torch.equal(content.state[name], tensor) for name, tensor in again.state_dict().items())


@pytest.mark.goldens("masks*", system="trar", when=_has("counts"))
def test_masks(golden: Golden) -> None:
    for name, counts in golden.json["counts"].items():
        scale, order = map(int, name.split("/"))
        outside = outside_window(scale, order)
        allowed = (~outside).sum(1)
        found = {
            "shape": list(outside.shape),
            "blocked": int(outside.sum()),
            "allowed": int(allowed.sum()),
            "allowed_row0": int(allowed[0]),
            "allowed_max_row": int(allowed.max()),
            "crc32_of_packbits": zlib.crc32(np.packbits(outside.numpy()).tobytes()),
        }
        assert {key: found[key] for key in counts} == counts
        packed = golden.arrays.get(f"blocked_s{scale}_r{order}")
        if packed is not None:
            assert np.array_equal(np.packbits(outside.numpy()), packed)
        with pytest.raises(ValueError, match=f"{scale}x{scale} cells"):
            outside_window(scale, scale)


@pytest.mark.goldens("parts*", system="trar", when=_has("attflat", "ffn"))
def test_parts(golden: Golden) -> None:
    case, arrays = golden.json, golden.arrays
    norm = LayerNorm(arrays["ln_x"].shape[-1])
    norm.load_state_dict({"a_2": torch.from_numpy(arrays["ln_gain"]), "b_2": torch.from_numpy(arrays["ln_bias"])})
    assert apart(norm(torch.from_numpy(arrays["ln_x"])), arrays["ln_y"]) <= CLOSE

    assert padding_of(torch.tensor(case["questions"])).int().tolist() == case["make_mask_of_questions"]

    keys = case["attflat"]["keys"]
    hidden, width = keys["mlp.fc.linear.weight"]
    out, glimpses = keys["linear_merge.bias"][0], keys["mlp.linear.bias"][0]
    pool = AttentionPool(width, hidden, out, glimpses, dropout=0.0)
    pool.load_state_dict({name: weight(name, shape) for name, shape in keys.items()})
    features, mask = tensors(arrays, "attflat_x", "attflat_mask")
    assert apart(pool(features, mask[:, 0, 0]), arrays["attflat_y"]) <= CLOSE

    keys = case["ffn"]["keys"]
    hidden, width = keys["mlp.fc.linear.weight"]
    forward = FeedForward(width, hidden, dropout=0.0)
    forward.load_state_dict({name: weight(name, shape) for name, shape in keys.items()})
    assert apart(forward(features), arrays["ffn_y"]) <= CLOSE


@pytest.mark.goldens("full_keys*", system="trar", when=lambda case: any("keys in all" in part for part in _dicts(case)))
def test_names_of_published_sizes(golden: Golden) -> None:
    for head, case in golden.json.items():
        if not isinstance(case, dict):
            continue
        keys = case["keys (layer 0 stands for every layer)"]
        adapter = next(name for name in keys if name.startswith("adapter.") and name.endswith("weight"))
        sizes = {"words": case["tokens"], "answers": case["answers"], "layers": case["layers"], "head": head}
        with torch.device("meta"):
            model = TrarModel(TrarConfig(**PUBLISHED_FORMS[head] | sizes | {"feature_width": keys[adapter][1]}))
        state = model.state_dict()
        every = {
            re.sub(r"list\.0\.", f"list.{layer}.", name): shape
            for name, shape in keys.items()
            for layer in range(case["layers"])
        }
        assert {name: list(tensor.shape) for name, tensor in state.items()} == every
        assert len(state) == case["keys in all"]
        assert sum(tensor.numel() for tensor in state.values()) == case["parameters"]
        assert TrarConfig(**inferred_settings(state, {"pool_padding": False})) == model.config


def _dicts(case: Any) -> list[dict[str, Any]]:
    return [part for part in case.values() if isinstance(part, dict)] if isinstance(case, dict) else []


def test_a_golden_configuration_is_read_in_full() -> None:
    settings = {"IMG_SCALE": 4, "ORDERS": [1], "ROUTING": "hard", "LAYER": 2, "HIDDEN_SIZE": 8, "MULTI_HEAD": 2}
    keys = {"embedding.weight": [5, 3], "proj.bias": [7], "adapter.frcn_linear.weight": [8, 6]}
    config = golden_config(settings, keys)
    assert (config.words, config.answers, config.feature_width, config.grid, config.orders) == (5, 7, 6, 4, (1,))
    assert config.pool_padding
