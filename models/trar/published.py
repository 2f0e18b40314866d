"""What the weights of a published checkpoint say of the network that they are of."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.trar.configuration import PUBLISHED_FORMS

_ROUTING = "backbone.dec_list.0.mhatt1.routing_block."
_HEADS = {"adapter.frcn_linear.weight": "vqa", "adapter.grid_linear.weight": "clevr"}


def inferred_settings(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrarConfig` from the shapes of published weights, and from `settings` where weights do not tell.

    Which orders, the grid, the routing, `binarize`, the number of heads and the dropout are not in the weights: without
    `settings` they are those of the public code's YAML file for the head. The routing pool counts padding, as
    published.

    Raises:
        ValueError: a weight that the sizes are read from is missing, `settings` differ from the weights, or the number
            of orders does.
    """
    found = _found(state)
    form = PUBLISHED_FORMS[found["head"]]
    wrong = [name for name in found if name in settings and settings[name] != found[name]]
    if wrong:
        name = wrong[0]
        raise ValueError(f"{name}={settings[name]!r} is asked for, but the weights are of {name}={found[name]!r}")
    merged: dict[str, Any] = {**form, **found, "pool_padding": True, **settings}
    spans = _shape(state, f"{_ROUTING}mlp.2.bias")[0]
    if len(merged["orders"]) != spans:
        raise ValueError(
            f"the weights route between {spans} spans, orders={list(merged['orders'])} has {len(merged['orders'])}: "
            "set orders to those that they were trained with"
        )
    return merged


def _found(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the names and shapes of the weights say."""
    adapter = next((name for name in _HEADS if name in state), None)
    if adapter is None:
        raise ValueError(
            "there is no adapter.frcn_linear or adapter.grid_linear among the weights: they are not TRAR's"
        )
    words, word_width = _shape(state, "embedding.weight")
    hidden, feature_width = _shape(state, adapter)
    merged = _shape(state, "attflat_img.linear_merge.weight")
    layers = {match[1] for name in state if (match := re.match(r"backbone\.dec_list\.(\d+)\.", name))}
    return {
        "head": _HEADS[adapter],
        "words": words,
        "answers": _shape(state, "proj.bias")[0],
        "feature_width": feature_width,
        "pooling": _pooling(state),
        "layers": len(layers),
        "hidden": hidden,
        "feed_forward": _shape(state, "backbone.dec_list.0.ffn.mlp.fc.linear.bias")[0],
        "pool_width": _shape(state, "attflat_img.mlp.fc.linear.bias")[0],
        "glimpses": merged[1] // hidden,
        "pooled_width": merged[0],
        "word_width": word_width,
    }


def _pooling(state: Mapping[str, Tensor]) -> str:
    if f"{_ROUTING}pool.weight" in state:
        return "fc"
    return "attention" if f"{_ROUTING}pool.linear_merge.weight" in state else "avg"


def _shape(state: Mapping[str, Tensor], name: str) -> list[int]:
    if name not in state:
        raise ValueError(f"{name} is missing among the weights: they are not TRAR's, or not all of them")
    return list(state[name].shape)
