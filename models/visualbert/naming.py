"""The names of VisualBERT's tensors: the original's (uclanlp/visualbert), and transformers', which are ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_WORDS = "visual_bert.embeddings.word_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_BIAS, _DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
#: Two names of one tensor, in transformers' names.
TIED = {_DECODER: _WORDS, _DECODER_BIAS: _BIAS}

#: Beginnings of names, the original's -> transformers', which calls the head of a task and those of pre-training `cls`.
_BEGINNINGS = {"bert.bert.": "visual_bert.", "bert.cls.": "cls.", "bert.classifier.": "cls."}
#: Tables of the embeddings, likewise.
_TABLES = {
    "token_type_embeddings_visual": "visual_token_type_embeddings",
    "position_embeddings_visual": "visual_position_embeddings",
    "projection": "visual_projection",
}
#: A detector that was trained along (VCR), and a table of numbers 0, 1, 2, … that older transformers saved.
_NO_WEIGHTS = re.compile(r"^(module\.)?detector\.|(^|\.)embeddings\.position_ids$")


def is_original(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the original's names."""
    return any(name.removeprefix("module.").startswith("bert.bert.") for name in names)


def transformers_name(name: str) -> str:
    """The original's name of a tensor -> transformers'; any other name stays."""
    name = name.removeprefix("module.")
    for beginning, ours in _BEGINNINGS.items():
        if name.startswith(beginning):
            name = ours + name.removeprefix(beginning)
            break
    return _with_tables(name, _TABLES)


def original_name(name: str) -> str:
    """transformers' name of a tensor -> the original's."""
    if name.startswith("visual_bert."):
        name = "bert.bert." + name.removeprefix("visual_bert.")
    elif name in ("cls.weight", "cls.bias"):
        name = "bert.classifier." + name.removeprefix("cls.")
    elif name.startswith("cls."):
        name = "bert." + name
    return _with_tables(name, {theirs: table for table, theirs in _TABLES.items()})


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under transformers' names, tied ones under both; of the original's names or transformers'.

    Raises:
        ValueError: tensors that are one in VisualBERT differ.
    """
    named = {transformers_name(name): tensor for name, tensor in state.items() if not _NO_WEIGHTS.search(name)}
    for one, other in TIED.items():
        present = [name for name in (one, other) if name in named]
        # a head for a task has the embeddings, but no words to predict
        if not present or (_BIAS not in named and _DECODER_BIAS not in named):
            continue
        if len(present) == 2 and not _same(named[one], named[other]):
            raise ValueError(f"{one} and {other} are one tensor in VisualBERT, but differ here")
        named[one] = named[other] = named[present[0]]
    return named


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under transformers' names -> the original's; what the original has no name for is left out."""
    full = to_transformers(state)
    return {original_name(name): tensor for name, tensor in full.items() if name != _DECODER_BIAS}


def _with_tables(name: str, tables: Mapping[str, str]) -> str:
    parts = name.split(".")
    if "embeddings" in parts[:-2]:
        parts[-2] = tables.get(parts[-2], parts[-2])
    return ".".join(parts)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return one.shape == other.shape and torch.equal(one, other)
