"""What the tensors of an OFA checkpoint tell: ModelScope's name of each, and the shape of the model they belong to."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.ofa.configuration import PRESETS, OFAConfig
from models.ofa.resnet import STAGES

#: Parts of fairseq's parameter names (OFA-Sys/OFA, `models/ofa/unify_transformer_layer.py`) and ModelScope's for them.
#: OFA-Sys's transformers models already have ModelScope's names.
_PARTS = {
    "attn_ln": "self_attn_mid_layer_norm",
    "self_attn_ln": "self_attn_mid_layer_norm",
    "cross_attn_ln": "cross_attn_mid_layer_norm",
    "encoder_attn": "cross_attn",
    "encoder_attn_layer_norm": "cross_attn_layer_norm",
    "ffn_layernorm": "ffn_layer_norm",
}
#: fairseq's format version of a module: no weight.
_NO_WEIGHTS = {"encoder.version", "decoder.version"}
#: What a wrapper (data parallel, ModelScope's task model) puts before every name.
_WRAPPERS = ("module.", "model.")
#: Types with the same stages have the same tensors: the later name of two, `resnet50`, is the usual one.
_RESNET_TYPES = {stages: name for name, stages in STAGES.items()}
#: Fields that no two sizes of OFA share, without which nothing can be built.
_ESSENTIAL = {
    "vocab_size",
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "resnet_type",
}
_POSITION_FIELDS = ("max_position_embeddings", "image_bucket_size", "token_bucket_size", "share_attn_bias")


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that every name has."""
    for prefix in _WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            return without_wrappers({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return dict(state)


def modelscope_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under ModelScope's names, whichever of the known programs wrote them."""
    return {
        ".".join(_PARTS.get(part, part) for part in name.split(".")): tensor
        for name, tensor in without_wrappers(state).items()
        if name not in _NO_WEIGHTS
    }


def inferred_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `OFAConfig` that the shapes in `state` (ModelScope's names) determine.

    A field is left out where its tensors are missing or have a shape that no OFA has. Dropout and the like, which leave
    no trace in the weights, are never there.
    """
    fields: dict[str, int | None] = {
        "vocab_size": _size(state, "encoder.embed_tokens.weight", "decoder.output_projection.weight"),
        "d_model": _size(state, "encoder.layer_norm.weight", "decoder.layer_norm.weight"),
    }
    for side in ("encoder", "decoder"):
        fields[f"{side}_layers"] = _count(state, rf"{side}\.layers\.(\d+)\.") or None
        fields[f"{side}_attention_heads"] = _size(state, f"{side}.layers.0.self_attn.c_attn")
        fields[f"{side}_ffn_dim"] = _size(state, f"{side}.layers.0.fc1.weight")
    positions = _size(state, "encoder.embed_positions.weight", "decoder.embed_positions.weight")
    places = _size(state, "encoder.embed_image_positions.weight", "decoder.embed_image_positions.weight")
    distances = _size(state, "encoder.token_rel_pos_table_list.0.weight", "decoder.token_rel_pos_table_list.0.weight")
    fields["max_position_embeddings"] = positions and positions - 2
    fields["image_bucket_size"] = places and math.isqrt(places - 1)
    fields["token_bucket_size"] = distances and (distances + 1) // 2
    known: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    tables = _count(state, r"encoder\.token_rel_pos_table_list\.(\d+)\.")
    if tables and known.get("encoder_layers", 1) > 1:
        known["share_attn_bias"] = tables == 1
    stages = tuple(_count(state, rf"encoder\.embed_images\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3))
    if stages in _RESNET_TYPES:
        known["resnet_type"] = _RESNET_TYPES[stages]
    return known


def inferred_config(state: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> OFAConfig:
    """The configuration of a checkpoint that comes without one; `overrides` win over what the shapes tell.

    Raises:
        ValueError: the tensors are not those of an OFA, or an override is not possible.
    """
    fields = inferred_fields(state) | dict(overrides)
    lacking = _ESSENTIAL - fields.keys()
    if lacking:
        raise ValueError(
            "these are not the weights of an OFA with a ResNet image tower: nothing tells "
            f"{', '.join(sorted(lacking))}; the tensors are {first_names(state)}"
        )
    return OFAConfig(**fields)


def find_preset(fields: Mapping[str, Any]) -> str | None:
    """The public size that has these fields of `OFAConfig`, if any."""
    for name, preset in PRESETS.items():
        if all(fields.get(field) == value for field, value in preset.items()):
            return name
    return None


def size_differences(state: Mapping[str, Tensor], config: OFAConfig) -> list[str]:
    """In which respects the tensors belong to another model than `config` describes: sentences, none where they fit."""
    fields = {
        name: value for name, value in inferred_fields(state).items() if not _same(name, value, getattr(config, name))
    }
    sentences = []
    size = sorted(fields.keys() & _ESSENTIAL - {"vocab_size"})
    if size:
        preset = find_preset(inferred_fields(state))
        looks = f'the file looks like preset "{preset}"' if preset else "the file is of another size"
        differing = ", ".join(f"{name} {fields[name]}, not {getattr(config, name)}" for name in size)
        sentences.append(f"{looks}: it has {differing}; use the configuration that belongs to it")
    if "vocab_size" in fields:
        sentences.append(
            f"its vocabulary has {fields['vocab_size']} entries and the configuration's vocab_size is "
            f"{config.vocab_size}: use the vocabulary and the vocab_size that belong to it"
        )
    tables = [name for name in _POSITION_FIELDS if name in fields]
    if tables:
        remedies = ", ".join(f"{name} to {fields[name]} (it is {getattr(config, name)})" for name in tables)
        sentences.append(f"its position tables have other sizes: in the OFAConfig set {remedies}")
    return sentences


def first_names(names: Mapping[str, Any] | list[str]) -> str:
    """The first ten names, and how many there are where there are more."""
    listed = list(names)
    return ", ".join(listed[:10]) + (f", … ({len(listed)} in all)" if len(listed) > 10 else "")


def _size(state: Mapping[str, Tensor], *names: str) -> int | None:
    """Rows of the first of these tensors that is there."""
    return next((state[name].shape[0] for name in names if name in state and state[name].ndim), None)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in names at the group of `pattern`."""
    return len({found[1] for found in map(re.compile(pattern).match, state) if found})


def _same(field: str, one: Any, other: Any) -> bool:
    if field == "resnet_type":
        return STAGES.get(one) == STAGES.get(other)
    return one == other
