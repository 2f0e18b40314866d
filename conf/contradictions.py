"""What contradicts what in a configuration, each with its remedy. `config.py` declares the settings and asks here."""

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config import Config, DataConfig, EvalConfig, ModelConfig, TrainConfig

DERIVED = {
    "vocab_size": "model.vocabulary_size",
    "dropout": "train.dropout",
    "encoder_drop_path_rate": "train.drop_path",
    "decoder_drop_path_rate": "train.drop_path",
}
"""OFAConfig fields that have a key of their own."""


def _model_problems(model: "ModelConfig") -> Iterator[str]:
    for name in sorted(DERIVED.keys() & model.config.keys()):
        yield f"model.config.{name} is set by {DERIVED[name]}; set that instead"
    if model.checkpoint is None:
        if model.preset is None and not model.config:
            yield "no model: set model.checkpoint (existing weights), or model.preset or model.config (a new model)"
        if model.vocabulary is None:
            yield 'a new model needs model.vocabulary: "train", or a directory with vocab.json and merges.txt'
        if model.revision is not None:
            yield "model.revision needs a hub id in model.checkpoint"
        return
    if model.vocabulary == "train":
        yield (
            'model.vocabulary = "train" contradicts model.checkpoint, whose embeddings belong to its own vocabulary; '
            "set model.vocabulary to null"
        )
    if model.resnet_weights is not None:
        yield "model.resnet_weights would overwrite the image tower of model.checkpoint; remove one of them"
    if model.preset is not None and not model.checkpoint.endswith(".pt"):
        yield "model.preset contradicts model.checkpoint, which has its own size; remove one of them"


def _data_problems(data: "DataConfig") -> Iterator[str]:
    if data.format == "demo":
        for name in ("image_dir", "train", "val", "test", "styles"):
            if getattr(data, name) is not None:
                yield f'data.{name} contradicts data.format = "demo", which renders its own; remove one of them'
    else:
        if data.image_dir is None:
            yield f'data.format = "{data.format}" needs data.image_dir (or the flat key img_addr)'
        if not (data.train or data.val or data.test):
            yield f'data.format = "{data.format}" needs annotations: data.train, data.val, data.test'
    if data.patch_image_size > data.max_image_size:
        yield (
            f"data.patch_image_size = {data.patch_image_size} is cut out of data.max_image_size = "
            f"{data.max_image_size}; set data.max_image_size to {data.patch_image_size} or more"
        )
    if data.image_suffix and not data.image_suffix.startswith("."):
        yield f'data.image_suffix = "{data.image_suffix}" must start with a dot: ".{data.image_suffix}"'


def _train_problems(train: "TrainConfig", decoding: "EvalConfig") -> Iterator[str]:
    if train.lr_end > train.lr:
        yield f"train.lr_end = {train.lr_end:g} is above train.lr = {train.lr:g}; lower it, the rate can only fall"
    if train.rdrop_alpha > 0 and train.dropout == 0 and train.drop_path == 0:
        yield (
            "train.rdrop_alpha compares two random passes, which train.dropout = 0 and train.drop_path = 0 make equal; "
            "set train.rdrop_alpha to 0 or train.dropout above 0"
        )
    if decoding.min_len > decoding.max_len_b:
        yield f"eval.min_len = {decoding.min_len} is above eval.max_len_b = {decoding.max_len_b}; lower it"


def _scst_problems(config: "Config") -> Iterator[str]:
    scst = config.scst
    for name, weight in scst.rewards.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            yield f"scst.rewards: the weight of {name} is {json.dumps(weight)}; it must be a number"
            return
    if config.train.objective != "scst":
        return
    if config.model.checkpoint is None:
        yield 'train.objective = "scst" goes on from step 1: set model.checkpoint (or --checkpoint) to its checkpoint'
    if not any(scst.rewards.values()):
        yield 'scst.rewards has no weight other than 0; give one reward a weight, such as {"cider-d": 1.0}'
    if scst.baseline == "leave_one_out" and scst.num_candidates == 1:
        yield (
            'scst.baseline = "leave_one_out" compares a candidate with the others, and scst.num_candidates = 1; '
            'set scst.num_candidates to 2 or more, or scst.baseline to "greedy"'
        )


def problems(config: "Config") -> Iterator[str]:
    """What contradicts what in a configuration, each with its remedy; nothing when it is sound."""
    if not config.work_dir:
        yield 'work_dir = "" must name a folder; "." is the current one'
    yield from _model_problems(config.model)
    yield from _data_problems(config.data)
    yield from _train_problems(config.train, config.eval)
    yield from _scst_problems(config)
    style = config.style
    if style.prompt.count("{}") != 1 or style.prompt.count("{") + style.prompt.count("}") != 2:
        yield f"style.prompt = {json.dumps(style.prompt)} must hold {{}} once and no other brace"
    if style.unknown_style == "token" and not style.tokenize_style:
        yield 'style.unknown_style = "token" needs style.tokenize_style = true'
