"""Typed configuration: dataclasses read from a JSON file, `--set key=value` overrides and command-line flags.

A field's default, meaning and limits stand in its declaration and nowhere else: the JSON reader, `--help` and
`finetune.py conf --schema` all read them from there. Layers override each other: file < `--set` < flag.
Relative paths mean relative to the current working directory, as for any command. Imports the standard library only.
"""
# ruff: noqa: RUF009  opt() is dataclasses.field() in disguise

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Size = Literal["tiny", "medium", "base", "large", "huge"]
Metric = Literal["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "CIDEr-D", "METEOR", "SPICE"]


def opt(default: Any, meaning: str, **limits: float) -> Any:
    """A configuration field. Limits: `low` and `high` are inclusive, `above` and `below` exclusive."""
    metadata = {"meaning": meaning, **limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which OFA to start from: a checkpoint, or a new model of a preset or of a shape of its own."""

    preset: Size | None = opt(
        None, "size of a new model; with a checkpoint only for a fairseq .pt file, which does not name its size"
    )
    checkpoint: str | None = opt(
        None,
        "start from these weights: a directory, a fairseq .pt file, or a ModelScope hub id such as "
        "damo/ofa_pretrain_base_en (the one thing that may be downloaded)",
    )
    revision: str | None = opt(None, "revision of a hub id, such as v1.0.2; null = the hub's default")
    config: dict[str, Any] = opt({}, "OFAConfig fields that override the preset's or describe a model without one")
    vocabulary: str | None = opt(
        None,
        'null = the checkpoint\'s; a directory with vocab.json and merges.txt; or "train" = learn byte-level '
        "BPE from the training captions",
    )
    vocabulary_size: int = opt(8000, "entries of a vocabulary that is trained, its 256 bytes included", low=300)
    resnet_weights: str | None = opt(
        None, "torchvision-format ResNet file; its stem and first three stages start the image tower of a new model"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """How the asked style reaches the model."""

    prompt: str = opt(" what does the image describe? write a {} reply.", "prompt with one {} for the style")
    tokenize_style: bool = opt(
        True, "true: a style is one token <code_k> of the vocabulary; false: the prompt spells its name"
    )
    unknown_style: Literal["error", "token"] = opt(
        "error", "a style outside the style map is an error, or becomes one token reserved for that"
    )
    style_map: str | None = opt(None, "JSON {style: token} to use; null = the checkpoint's, else made from data.styles")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Annotations, images, and how they are read."""

    format: Literal["personality", "coco", "karpathy", "demo"] = opt(
        "personality", "annotation format; demo = a set rendered under work_dir, needing no files"
    )
    image_dir: str | None = opt(None, "folder of the images")
    train: str | None = opt(None, "annotation file to train on")
    val: str | None = opt(None, "annotation file to choose the best checkpoint by")
    test: str | None = opt(None, "annotation file for the final evaluation")
    styles: str | None = opt(None, "list of styles, one a line; null = the styles of the annotations")
    image_suffix: str = opt(".jpg", 'appended to an image name to find its file; "" if names have their suffix')
    default_style: str = opt("Factual", "style of the captions of formats that have none")
    skip_bad: bool = opt(False, "leave out faulty records (missing images, ...) instead of refusing the data set")
    patch_image_size: int = opt(224, "side of the square the model sees, in pixels", low=32)
    max_image_size: int = opt(256, "side to which images are resized before the crop to patch_image_size", low=32)
    flip: bool = opt(False, "mirror training images half of the time")
    max_tgt_length: int = opt(30, "words of a training caption that are kept", low=1)
    num_workers: int = opt(2, "processes that load images; 0 = load in the training process", low=0)
    cache_images: bool = opt(False, "keep decoded, resized images in memory (bytes: 3 x max_image_size^2 each)")
    demo_images: int = opt(3000, "images of the rendered set, all splits together", low=30)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Objective, optimizer, schedule and checkpoints."""

    objective: Literal["cross-entropy"] = opt("cross-entropy", "what is minimised")
    max_epochs: int = opt(5, "passes over the training captions", low=1)
    max_steps: int | None = opt(None, "stop after this many optimizer steps, if sooner; null = no limit", low=1)
    batch_size: int = opt(16, "images of one forward pass on each rank", low=1)
    captions_per_image: int = opt(1, "most captions of an image that share its forward pass", low=1)
    gradient_accumulation: int = opt(1, "forward passes of an optimizer step", low=1)
    lr: float = opt(5e-5, "peak learning rate, reached after warm-up", above=0)
    lr_end: float = opt(0.0, "learning rate at the end of the schedule", low=0)
    warmup_proportion: float = opt(0.06, "share of all steps in which the rate rises from 0", low=0, below=1)
    schedule: Literal["linear", "polynomial", "cosine"] = opt("polynomial", "how the rate falls after warm-up")
    weight_decay: float = opt(0.01, "AdamW's decoupled decay of weight matrices", low=0, below=1)
    adam_betas: tuple[float, float] = opt((0.9, 0.999), "AdamW's decay rates of both moments", low=0, below=1)
    adam_eps: float = opt(1e-8, "AdamW's term against division by zero", above=0)
    clip_norm: float = opt(1.0, "gradients are scaled down to this norm; 0 = never", low=0)
    label_smoothing: float = opt(0.1, "probability mass spread over the vocabulary", low=0, below=1)
    drop_worst_ratio: float = opt(0.0, "share of the tokens with the highest loss that is ignored", low=0, below=1)
    drop_worst_after: int = opt(0, "optimizer steps before drop_worst_ratio applies", low=0)
    rdrop_alpha: float = opt(0.0, "weight of the R-drop consistency loss (two dropout passes); 0 = off", low=0)
    dropout: float = opt(0.1, "dropout of embeddings and sublayers", low=0, below=1)
    drop_path: float = opt(0.1, "stochastic depth of the last layer, rising linearly from the first", low=0, below=1)
    dtype: Literal["float32", "bfloat16", "float16"] = opt(
        "bfloat16", "autocast type of matrix products, weights stay float32; float16 needs a GPU"
    )
    freeze_resnet: bool = opt(False, "do not train the image tower")
    freeze_embeddings: bool = opt(False, "do not train the token embeddings")
    gradient_checkpointing: bool = opt(False, "recompute activations in the backward pass: less memory, more time")
    checkpoint_every: Literal["epoch"] | int = opt(
        "epoch", "save and validate after every epoch, or after every that many optimizer steps", low=1
    )
    keep_checkpoints: int = opt(2, "checkpoints kept beside the best one", low=1)
    best_metric: Metric = opt("CIDEr", "validation score that names the best checkpoint")
    early_stop_patience: int | None = opt(
        None, "stop after this many validations without a better score; null = never", low=1
    )
    log_every: int = opt(20, "optimizer steps between two log lines", low=1)
    tensorboard: bool = opt(True, "write TensorBoard events into work_dir")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Decoding and scoring."""

    split: Literal["train", "val", "test"] = opt("val", "split that `eval` captions and scores")
    batch_size: int = opt(32, "images decoded together", low=1)
    beam_size: int = opt(5, "beams; 1 = greedy", low=1)
    max_len_b: int = opt(16, "most tokens of a caption, the end token not counted", low=1)
    min_len: int = opt(1, "fewest tokens of a caption", low=0)
    no_repeat_ngram_size: int = opt(3, "no n-gram of this length appears twice in a caption; 0 = allowed", low=0)
    length_penalty: float = opt(1.0, "scores are divided by length to this power; above 1 favours long captions")
    scorer: Literal["stylecap", "pycocoevalcap"] = opt(
        "stylecap", "this project's scorers (no Java for BLEU, ROUGE, CIDEr), or the original tool chain"
    )
    meteor: bool = opt(True, "score METEOR where Java is installed")
    spice: bool = opt(True, "score SPICE where Java and the CoreNLP jars are installed")
    java_timeout_s: int = opt(600, "seconds before a Java scorer is given up", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration of a run. Immutable; `dataclasses.replace` makes variants."""

    task: Literal["stylish-image-captioning"] = opt("stylish-image-captioning", "the ModelScope task")
    work_dir: str = opt("work_dir/default", "folder of the run: checkpoints, logs, predictions, metrics")
    seed: int = opt(7, "seed of initial weights, shuffling, dropout and the rendered set", low=0, high=2**32 - 1)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    style: StyleConfig = dataclasses.field(default_factory=StyleConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)

    def reader_arguments(self, split: str) -> dict[str, Any]:
        """Keyword arguments for `data.read_split(split, ...)`. ValueError when the split has no annotations."""
        data = self.data
        if data.format == "demo":
            root = self.demo_dir()
            paths = {"annotations": f"{root}/{split}.json", "image_dir": f"{root}/images"}
            return {"format": "personality", **paths, "styles": f"{root}/personalities.txt"}
        annotations = getattr(data, split, None) if split in ("train", "val", "test") else None
        if annotations is None:
            raise ValueError(f'the configuration has no split "{split}": set data.{split} to its annotation file')
        names = ("format", "image_dir", "styles", "image_suffix", "default_style")
        return {"annotations": annotations, **{name: getattr(data, name) for name in names}}

    def demo_dir(self) -> str:
        """Where the rendered data set of data.format = "demo" lies."""
        return os.path.join(self.work_dir, "demo_data")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON; `parse_config` of it gives an equal Config."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _fields() -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Every key as (resolved type, field), dotted, in order of declaration."""
    found: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}

    def visit(owner: type, prefix: str) -> None:
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            if dataclasses.is_dataclass(hints[field.name]):
                visit(hints[field.name], f"{field.name}.")
            else:
                found[prefix + field.name] = (hints[field.name], field)

    visit(Config, "")
    return found


FIELDS = _fields()
SECTIONS = tuple(dict.fromkeys(key.split(".")[0] for key in FIELDS if "." in key))
DICTS = tuple(key for key, (kind, _) in FIELDS.items() if typing.get_origin(kind) is dict)

FLAGS = {
    "checkpoint": "model.checkpoint",
    "max_epoches": "train.max_epochs",
    "batch_size": "train.batch_size",
    "num_workers": "data.num_workers",
    "lr": "train.lr",
    "lr_end": "train.lr_end",
    "warm_up": "train.warmup_proportion",
    "weight_decay": "train.weight_decay",
    "patch_image_size": "data.patch_image_size",
    "max_image_size": "data.max_image_size",
    "beam_size": "eval.beam_size",
    "max_len": "eval.max_len_b",
    "freeze_resnet": "train.freeze_resnet",
    "work_dir": "work_dir",
    "seed": "seed",
}
"""Command-line flag -> key."""

LEGACY = {
    "model_name": "model.checkpoint",
    "model_revision": "model.revision",
    "tokenize_style": "style.tokenize_style",
    "prompt": "style.prompt",
    "img_addr": "data.image_dir",
    "file_attr": "data.image_suffix",
    "train_json": "data.train",
    "val_json": "data.val",
    "test_json": "data.test",
    "dataset_path": None,
}
"""Flat key of older configurations -> key; dataset_path is the folder of the three *_json files."""


# --- types and limits ------------------------------------------------------------------------------------------------


def _describe(kind: Any) -> str:
    """A field's type in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(arg) for arg in args)
    if origin is Literal:
        return " or ".join(json.dumps(arg) for arg in args)
    if origin is tuple:
        return f"list of {len(args)} {_describe(args[0])}s"
    if origin is dict:
        return "object"
    return {str: "string", int: "integer", float: "number", bool: "true or false", types.NoneType: "null"}[kind]


def _matches(kind: Any, value: Any) -> bool:
    """Whether a JSON value has a field's type; an integer is a number, but true is neither."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_matches(arg, value) for arg in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(args) and all(map(_matches, args, value))
    if origin is dict:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _limits(metadata: Mapping[str, Any]) -> str:
    words = {"low": ">=", "above": ">", "high": "<=", "below": "<"}
    return " and ".join(f"{sign} {metadata[name]:g}" for name, sign in words.items() if name in metadata)


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    numbers = [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int | float)]
    return all(
        metadata.get("low", -math.inf) <= number <= metadata.get("high", math.inf)
        and metadata.get("above", -math.inf) < number < metadata.get("below", math.inf)
        for number in numbers
    )


def _checked(key: str, value: Any, where: str) -> Any:
    """The value in the field's Python type. ValueError when its type or range is wrong."""
    kind, field = FIELDS[key]
    if not _matches(kind, value):
        hint = ""
        if isinstance(value, str):
            unquoted = _json_or_text(value)
            hint = f"; write {value} without quotes" if unquoted != value and _matches(kind, unquoted) else ""
            words = [
                word
                for arg in (kind, *typing.get_args(kind))
                if typing.get_origin(arg) is Literal
                for word in typing.get_args(arg)
            ]
            close = difflib.get_close_matches(value, words, 1)
            hint = hint or (f"; did you mean {json.dumps(close[0])}?" if close else "")
        raise ValueError(f"{where}: {key} = {json.dumps(value)} must be {_describe(kind)}{hint}")
    if not _in_range(value, field.metadata):
        raise ValueError(f"{where}: {key} = {json.dumps(value)} must be {_limits(field.metadata)}")
    if typing.get_origin(kind) is tuple:
        return tuple(float(number) for number in value)
    return float(value) if kind is float else value


# --- layers: file, --set, flags --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Entry:
    value: Any
    where: str  # the file, "--set key" or "--flag", for messages
    layer: int  # 0 file, 1 --set, 2 flag
    name: str  # the key as it was written


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _value_of(key: str, text: str) -> Any:
    """Reads a command-line value: JSON, or the text itself where that is no JSON or the field wants a string."""
    value = _json_or_text(text)
    kind = FIELDS[key][0] if key in FIELDS else str if key in LEGACY and key != "tokenize_style" else Any
    if kind is not Any and not _matches(kind, value) and value is not None and _matches(kind, text):
        return text
    return value


def _reject_unknown(key: str, where: str) -> None:
    """ValueError for a key that no section has, with the nearest one that exists."""
    if key in FIELDS or key in LEGACY or any(key.startswith(f"{name}.") for name in DICTS):
        return
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in FIELDS if name.rsplit(".", 1)[-1] == leaf]
    nearest = same_leaf or difflib.get_close_matches(key, [*SECTIONS, *FIELDS, *LEGACY])[:1]
    if not nearest:
        leaves = difflib.get_close_matches(leaf, [name.rsplit(".", 1)[-1] for name in [*FIELDS, *LEGACY]], 1, 0.6)
        nearest = [name for name in [*FIELDS, *LEGACY] if leaves and name.rsplit(".", 1)[-1] == leaves[0]]
    remedy = f"did you mean {' or '.join(nearest)}?" if nearest else "`finetune.py conf --schema` lists all keys"
    raise ValueError(f'{where}: unknown key "{key}"; {remedy}')


def _flatten(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}; free-form objects flatten too, so that layers merge them by key."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if name == "_about":
            if not isinstance(value, str):
                raise ValueError(f"{where}: _about = {json.dumps(value)} must be a string: it is the file's comment")
        elif name in SECTIONS:
            if not isinstance(value, dict):
                raise ValueError(f'{where}: "{name}" is a section and must be an object, not {json.dumps(value)}')
            for key, inner in value.items():
                full = f"{name}.{key}"
                if full in DICTS and isinstance(inner, dict):
                    flat.update({f"{full}.{deep}": item for deep, item in inner.items()})
                else:
                    flat[full] = inner
        else:
            flat[name] = value
    for key in flat:
        _reject_unknown(key, where)
    return flat


def _hub_id(name: str) -> str:
    """A legacy model_name as a checkpoint: a size or a bare hub name means DAMO's English OFA on the hub."""
    if name in typing.get_args(Size) and not os.path.exists(name):
        return f"damo/ofa_pretrain_{name}_en"
    return f"damo/{name}" if name.startswith("ofa_") and "/" not in name and not os.path.exists(name) else name


def _translate_legacy(entries: list[_Entry]) -> list[_Entry]:
    """Replaces flat keys of older configurations by the sectioned ones."""
    flat = {entry.name: entry for entry in entries if entry.name in LEGACY}
    result = [entry for entry in entries if entry.name not in LEGACY]
    folder = flat.pop("dataset_path", None)
    if folder and not any(name.endswith("_json") for name in flat):
        raise ValueError(
            f"{folder.where}: dataset_path is the folder of train_json, val_json and test_json; give these"
        )
    for entry in (entry for entry in [folder, *flat.values()] if entry is not None):
        optional = ("prompt", "model_revision")
        if not (
            isinstance(entry.value, str)
            or entry.name == "tokenize_style"
            or (entry.value is None and entry.name in optional)
        ):
            raise ValueError(f"{entry.where}: {entry.name} = {json.dumps(entry.value)} must be a string")
    for name, entry in flat.items():
        value, layer = entry.value, entry.layer
        if name in ("prompt", "model_revision") and not value:
            continue  # older files write "" or null for "the default"
        if name == "model_name":
            value = _hub_id(value)
        elif name == "file_attr" and value and not value.startswith("."):
            value = f".{value}"
        elif name.endswith("_json") and folder:
            value, layer = os.path.join(folder.value, value), max(layer, folder.layer)
        result.append(dataclasses.replace(entry, value=value, layer=layer, name=f"{LEGACY[name]} ({name})"))
    return result


def _merge(entries: list[_Entry]) -> dict[str, _Entry]:
    """The winning entry of every key. ValueError when a flat and a sectioned key of one layer disagree."""
    merged: dict[str, _Entry] = {}
    for entry in entries:
        key = entry.name.split(" ")[0]
        other = merged.get(key)
        if other and other.layer == entry.layer and other.name != entry.name and other.value != entry.value:
            raise ValueError(
                f"{entry.where}: {other.name} = {json.dumps(other.value)} and {entry.name} = "
                f"{json.dumps(entry.value)} are the same setting; keep one of them"
            )
        if other is None or entry.layer >= other.layer:
            merged[key] = entry
    start = merged.get("model.checkpoint")
    if start and start.value is not None and start.layer > 0:
        # A checkpoint asked for on the command line brings its own shape and vocabulary: the file's no longer apply.
        return {key: entry for key, entry in merged.items() if entry.layer > 0 or not key.startswith("model.")}
    return merged


def _build(merged: Mapping[str, _Entry]) -> Config:
    plain: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for key, entry in merged.items():
        owner = next((name for name in DICTS if key.startswith(f"{name}.")), None)
        section, _, leaf = (owner or key).rpartition(".")
        if owner:
            sections[section].setdefault(leaf, {})[key[len(owner) + 1 :]] = entry.value
        elif section:
            sections[section][leaf] = _checked(key, entry.value, entry.where)
        else:
            plain[key] = _checked(key, entry.value, entry.where)
    hints = typing.get_type_hints(Config)
    return Config(**plain, **{name: hints[name](**values) for name, values in sections.items()})


# --- contradictions --------------------------------------------------------------------------------------------------

DERIVED = {
    "vocab_size": "model.vocabulary_size",
    "dropout": "train.dropout",
    "encoder_drop_path_rate": "train.drop_path",
    "decoder_drop_path_rate": "train.drop_path",
}
"""OFAConfig fields that have a key of their own."""


def _model_problems(model: ModelConfig) -> Iterator[str]:
    for name in DERIVED.keys() & model.config.keys():
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


def _data_problems(data: DataConfig) -> Iterator[str]:
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


def _train_problems(train: TrainConfig, decoding: EvalConfig) -> Iterator[str]:
    if train.lr_end > train.lr:
        yield f"train.lr_end = {train.lr_end:g} is above train.lr = {train.lr:g}; lower it, the rate can only fall"
    if train.rdrop_alpha > 0 and train.dropout == 0 and train.drop_path == 0:
        yield (
            "train.rdrop_alpha compares two random passes, which train.dropout = 0 and train.drop_path = 0 make equal; "
            "set train.rdrop_alpha to 0 or train.dropout above 0"
        )
    if (train.best_metric, decoding.meteor) == ("METEOR", False):
        yield 'train.best_metric = "METEOR" needs eval.meteor = true'
    if (train.best_metric, decoding.spice) == ("SPICE", False):
        yield 'train.best_metric = "SPICE" needs eval.spice = true'
    if decoding.min_len > decoding.max_len_b:
        yield f"eval.min_len = {decoding.min_len} is above eval.max_len_b = {decoding.max_len_b}; lower it"


def problems(config: Config) -> Iterator[str]:
    """What contradicts what in a configuration, each with its remedy; nothing when it is sound."""
    if not config.work_dir:
        yield 'work_dir = "" must name a folder; "." is the current one'
    yield from _model_problems(config.model)
    yield from _data_problems(config.data)
    yield from _train_problems(config.train, config.eval)
    style = config.style
    if style.prompt.count("{}") != 1 or style.prompt.count("{") + style.prompt.count("}") != 2:
        yield f"style.prompt = {json.dumps(style.prompt)} must hold {{}} exactly once, in the style's place"
    if style.unknown_style == "token" and not style.tokenize_style:
        yield 'style.unknown_style = "token" needs style.tokenize_style = true'


# --- public ----------------------------------------------------------------------------------------------------------


def parse_config(
    document: Mapping[str, Any],
    *,
    sets: Iterable[str] = (),
    flags: Mapping[str, str | None] | None = None,
    where: str = "configuration",
) -> Config:
    """A checked Config from the content of a configuration file and overrides. See `load_config`."""
    entries = [_Entry(value, where, 0, key) for key, value in _flatten(document, where).items()]
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: expected key=value, such as --set train.lr=2e-5")
        key = key.strip()
        section, _, leaf = key.partition(".")
        inner = _value_of(key, value)
        nested = {section: {leaf: inner}} if leaf and section in SECTIONS else {key: inner}
        entries += [_Entry(item, "--set", 1, name) for name, item in _flatten(nested, "--set").items()]
    for name, given in (flags or {}).items():
        if given is not None:
            entries.append(_Entry(_value_of(FLAGS[name], given), f"--{name}", 2, FLAGS[name]))
    config = _build(_merge(_translate_legacy(entries)))
    for problem in problems(config):
        raise ValueError(f"{where}: {problem}")
    return config


def load_config(
    path: str | os.PathLike[str], sets: Iterable[str] = (), flags: Mapping[str, str | None] | None = None
) -> Config:
    """Reads and checks a JSON configuration.

    sets: "key=value" overrides, dotted keys, the value JSON or else text. flags: values (text) by the names in `FLAGS`,
    None = not given. Raises FileNotFoundError, or ValueError that names file, key, value and remedy.
    """
    where = os.fspath(path)
    if not os.path.isfile(where):
        raise FileNotFoundError(f"no configuration file {where}; name one with --conf")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f'{where}: key "{key}" stands twice in one object; keep one')
        return dict(pairs)

    try:
        with open(where, encoding="utf-8-sig") as file:
            document = json.load(file, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if not isinstance(document, dict):
        raise ValueError(f"{where}: a configuration is a JSON object, {{...}}")
    return parse_config(document, sets=sets, flags=flags, where=where)


def schema() -> list[dict[str, Any]]:
    """Every key as {"key", "type", "default", "limits", "meaning"}, JSON-able."""
    rows = []
    defaults: dict[str, Any] = Config().to_dict()
    for key, (kind, field) in FIELDS.items():
        section, _, leaf = key.rpartition(".")
        default = (defaults[section] if section else defaults)[leaf]
        rows.append(
            {
                "key": key,
                "type": _describe(kind),
                "default": default,
                "limits": _limits(field.metadata),
                "meaning": field.metadata["meaning"],
            }
        )
    return rows


def schema_text() -> str:
    """The schema for people: a line of key, default, type and limits, and below it the meaning."""
    blocks = []
    for row in schema():
        limits = f", {row['limits']}" if row["limits"] else ""
        blocks.append(f"{row['key']} = {json.dumps(row['default'])}  ({row['type']}{limits})\n    {row['meaning']}")
    blocks.append("\nFlat keys of older configurations, also accepted:")
    blocks += [f"    {name} -> {key or 'folder of train_json, val_json, test_json'}" for name, key in LEGACY.items()]
    return "\n".join(blocks)
