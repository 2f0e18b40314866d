"""Typed configuration: dataclasses read from a JSON file, `--set key=value` overrides and command-line flags.

A setting's default, meaning, limits and flag stand in its declaration and nowhere else: the JSON reader, `--help` and
`finetune.py conf --schema` all read them from there. Layers override each other: file < `--set` < flag.
Relative paths mean relative to the current working directory, as for any command. Imports the standard library only.
"""
# ruff: noqa: RUF009  opt() declares a dataclass field

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from conf.contradictions import problems
from conf.legacy import FOLDER, Size, translate
from conf.typed import Entry, build, describe, flatten, json_or_text, keys_of, opt, read_json_object

RUNS = "work_dir"
"""The folder that holds the folders of runs."""
# Those of validation: no training run waits for a JVM.
Metric = Literal["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "CIDEr-D"]


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
        flag="checkpoint",
        flat="model_name",
    )
    revision: str | None = opt(
        None, "revision of a hub id, such as v1.0.2; null = the hub's default", flat="model_revision"
    )
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

    prompt: str = opt(
        " what does the image describe? write a {} reply.", "prompt with one {} for the style", flat="prompt"
    )
    tokenize_style: bool = opt(
        True,
        "true: a style is one token <code_k> of the vocabulary; false: the prompt spells its name",
        flat="tokenize_style",
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
    image_dir: str | None = opt(None, "folder of the images", flat="img_addr")
    train: str | None = opt(None, "annotation file to train on", flat="train_json")
    val: str | None = opt(None, "annotation file to choose the best checkpoint by", flat="val_json")
    test: str | None = opt(None, "annotation file for the final evaluation", flat="test_json")
    styles: str | None = opt(None, "list of styles, one a line; null = the styles of the annotations")
    image_suffix: str = opt(
        ".jpg", 'appended to an image name to find its file; "" if names have their suffix', flat="file_attr"
    )
    default_style: str = opt("Factual", "style of the captions of formats that have none")
    skip_bad: bool = opt(False, "leave out faulty records (missing images, ...) instead of refusing the data set")
    patch_image_size: int = opt(224, "side of the square the model sees, in pixels", low=32, flag="patch_image_size")
    max_image_size: int = opt(
        256, "side to which images are resized before the crop to patch_image_size", low=32, flag="max_image_size"
    )
    flip: bool = opt(False, "mirror training images half of the time")
    max_tgt_length: int = opt(30, "words of a training caption that are kept", low=1)
    lowercase: bool = opt(False, "train on captions in lower case (scores ignore case)")
    num_workers: int = opt(2, "processes that load images; 0 = load in the training process", low=0, flag="num_workers")
    cache_images: bool = opt(False, "keep decoded, resized images in memory (bytes: 3 x max_image_size^2 each)")
    demo_images: int = opt(3000, "images of the rendered set, all splits together", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Objective, optimizer, schedule and checkpoints."""

    objective: Literal["cross-entropy", "scst"] = opt(
        "cross-entropy", "what is optimised: step 1, or step 2 (self-critical training, section scst)", flag="objective"
    )
    max_epochs: int = opt(5, "passes over the training captions", low=1, flag="max_epoches")
    max_steps: int | None = opt(None, "stop after this many optimizer steps, if sooner; null = no limit", low=1)
    batch_size: int = opt(16, "images of one forward pass on each rank", low=1, flag="batch_size")
    captions_per_image: int = opt(1, "most captions of an image that share its forward pass", low=1)
    gradient_accumulation: int = opt(1, "forward passes of an optimizer step", low=1)
    lr: float = opt(5e-5, "peak learning rate, reached after warm-up", above=0, flag="lr")
    lr_end: float = opt(0.0, "learning rate at the end of the schedule", low=0, flag="lr_end")
    warmup_proportion: float = opt(
        0.06, "share of all steps in which the rate rises from 0", low=0, below=1, flag="warm_up"
    )
    schedule: Literal["linear", "polynomial", "cosine"] = opt("polynomial", "how the rate falls after warm-up")
    weight_decay: float = opt(0.01, "AdamW's decoupled decay of weight matrices", low=0, below=1, flag="weight_decay")
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
    freeze_resnet: bool = opt(False, "do not train the image tower", flag="freeze_resnet")
    freeze_embeddings: bool = opt(False, "do not train the token embeddings")
    gradient_checkpointing: bool = opt(False, "recompute activations in the backward pass: less memory, more time")
    sharding: Literal["none", "fsdp"] = opt(
        "none", "divide parameters and optimizer state over the ranks of torchrun, for models that do not fit on one"
    )
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
class StyleMlmConfig:
    """Step 1's masked-style tasks, learnt beside captioning: one question each about an image and its captions.

    A weight is that of a token of the answer, beside 1 for a caption's; a task of weight 0 is off.
    """

    mask_style_weight: float = opt(0.0, "weight of naming the style that is masked in a prompt with the caption", low=0)
    mask_caption_weight: float = opt(0.0, "weight of restoring a caption with masked words, given its style", low=0)
    mask_ratio: float = opt(0.3, "share of a caption's words that are masked", above=0, below=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleMatchingConfig:
    """Step 1's matching task: does a caption belong to an image and a style?"""

    weight: float = opt(0.0, "weight of answering yes, no or personality; 0 = off", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScstConfig:
    """Step 2: self-critical sequence training."""

    candidates: Literal["multinomial", "beam"] = opt("multinomial", "how candidate captions are drawn")
    num_candidates: int = opt(5, "candidates of each image and style", low=1)
    temperature: float = opt(1.0, "divides the logits that multinomial candidates are drawn from", above=0)
    top_k: int = opt(0, "draw from the k most probable tokens only; 0 = all", low=0)
    top_p: float = opt(1.0, "draw from the smallest set of tokens with this probability; 1 = all", above=0, high=1)
    max_len_b: int = opt(16, "most tokens of a candidate, the end token not counted", low=1)
    baseline: Literal["greedy", "leave_one_out", "batch_mean"] = opt(
        "leave_one_out",
        "what a candidate's reward is compared with: the greedy caption's, the mean of the other candidates', or the "
        "mean of the batch",
    )
    normalise_advantages: Literal["none", "group", "batch"] = opt(
        "none", "divide advantages by their standard deviation over the candidates of an image, or over the batch"
    )
    reduction: Literal["sequence", "token"] = opt(
        "sequence", "a candidate's loss is the sum over its tokens, or their mean; the loss is the mean over candidates"
    )
    cross_entropy_weight: float = opt(0.0, "weight of step 1's loss on the images' own captions", low=0)
    kl_weight: float = opt(0.0, "weight of the divergence from the model that step 2 starts from", low=0)
    rewards: dict[str, Any] = opt({"cider-d": 1.0}, "reward -> weight; a reward of weight 0 is only logged")
    normalise_rewards: bool = opt(False, "bring each reward to mean 0, deviation 1 over its group before weighting")
    soft_references: float = opt(
        0.0, "weight of an image's captions in other styles as references, beside the asked style's", low=0, high=1
    )
    document_frequency: str | None = opt(None, "CIDEr-D's table from a file; null = counted in the training captions")
    workers: int = opt(2, "threads that compute rewards", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Decoding and scoring."""

    split: Literal["train", "val", "test"] = opt("val", "split that `eval` captions and scores")
    batch_size: int = opt(32, "captions decoded together", low=1)
    beam_size: int = opt(5, "beams; 1 = greedy", low=1, flag="beam_size")
    max_len_b: int = opt(16, "most tokens of a caption, the end token not counted", low=1, flag="max_len")
    min_len: int = opt(1, "fewest tokens of a caption", low=0)
    no_repeat_ngram_size: int = opt(3, "no n-gram of this length appears twice in a caption; 0 = allowed", low=0)
    length_penalty: float = opt(1.0, "scores are divided by length to this power; above 1 favours long captions")
    scorer: Literal["stylecap", "pycocoevalcap"] = opt(
        "stylecap", "this project's scorers (no Java for BLEU, ROUGE, CIDEr), or the original tool chain"
    )
    meteor: bool = opt(True, "score METEOR where Java is installed")
    spice: bool = opt(True, "score SPICE where Java and the CoreNLP jars are installed")
    java_timeout_s: int = opt(600, "seconds before a Java scorer is given up", low=1)
    java_memory_gb: int = opt(8, "most memory of a Java scorer, in GB", low=1)
    sensitivity_images: int = opt(
        50, "images captioned in several styles to see what the style changes, where the split has none such", low=0
    )
    sensitivity_styles: int = opt(10, "styles in which each of them is captioned", low=2)
    bootstrap: int = opt(1000, "draws of images behind the intervals of the scores; 0 = no intervals", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration of a run. Immutable; `dataclasses.replace` makes variants."""

    task: Literal["stylish-image-captioning"] = opt("stylish-image-captioning", "the ModelScope task")
    work_dir: str = opt(
        f"{RUNS}/default", "folder of the run: checkpoints, logs, predictions, metrics", flag="work_dir"
    )
    seed: int = opt(
        7, "seed of initial weights, shuffling, dropout and the rendered set", low=0, high=2**32 - 1, flag="seed"
    )
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    style: StyleConfig = dataclasses.field(default_factory=StyleConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    style_mlm: StyleMlmConfig = dataclasses.field(default_factory=StyleMlmConfig)
    style_matching: StyleMatchingConfig = dataclasses.field(default_factory=StyleMatchingConfig)
    scst: ScstConfig = dataclasses.field(default_factory=ScstConfig)
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

    def splits(self) -> list[str]:
        """The splits that have annotations."""
        return [name for name in ("train", "val", "test") if self.data.format == "demo" or getattr(self.data, name)]

    def demo_dir(self) -> str:
        """Where the rendered data set of data.format = "demo" lies."""
        return os.path.join(self.work_dir, "demo_data")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON; `parse_config` of it gives an equal Config."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


KEYS = keys_of(Config)
FLAGS = {key.metadata["flag"]: name for name, key in KEYS.items() if key.metadata["flag"]}
"""Command-line flag -> key."""
FLAT = {key.metadata["flat"]: name for name, key in KEYS.items() if key.metadata["flat"]}
"""Flat key of older configurations -> key."""


# --- layers: file, --set, flags --------------------------------------------------------------------------------------


def _merge(entries: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    """The winning entry of every key. ValueError when two names of one setting disagree in one layer."""
    merged: dict[str, Entry] = {}
    for key, entry in entries:
        other = merged.get(key)
        if other and other.layer == entry.layer and other.name != entry.name and other.value != entry.value:
            raise ValueError(
                f"{entry.where}: {other.name} = {json.dumps(other.value)} and {entry.name} = {json.dumps(entry.value)} "
                "are the same setting; keep one of them"
            )
        if other is None or entry.layer >= other.layer:
            merged[key] = entry
    start = merged.get("model.checkpoint")
    if start and start.value is not None and start.layer > 0:
        # A checkpoint asked for on the command line brings its own shape and vocabulary: the file's no longer apply.
        return {key: entry for key, entry in merged.items() if entry.layer > 0 or not key.startswith("model.")}
    return merged


# --- public ----------------------------------------------------------------------------------------------------------


def _set_entries(text: str) -> list[Entry]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValueError(f"--set {text}: expected key=value, such as --set train.lr=2e-5")
    declared = KEYS.get(FLAT.get(key, key))
    parsed = declared.from_text(value) if declared else value if key == FOLDER else json_or_text(value)
    section, dot, leaf = key.partition(".")
    nested = {section: {leaf: parsed}} if dot else {key: parsed}
    return [Entry(item, "--set", 1, name) for name, item in flatten(nested, KEYS, (*FLAT, FOLDER), "--set").items()]


def parse_config(
    document: Mapping[str, Any],
    *,
    sets: Iterable[str] = (),
    flags: Mapping[str, str | None] | None = None,
    where: str = "configuration",
) -> Config:
    """A checked Config from the content of a configuration file and overrides; `where` names it in errors.

    See `load_config`. A top-level "_about" is the file's comment and is dropped.
    """
    about = document.get("_about", "")
    if not isinstance(about, str):
        raise ValueError(f"{where}: _about = {json.dumps(about)} must be a string: it is the file's comment")
    settings = {key: value for key, value in document.items() if key != "_about"}
    entries = [Entry(item, where, 0, key) for key, item in flatten(settings, KEYS, (*FLAT, FOLDER), where).items()]
    for text in sets:
        entries += _set_entries(text)
    for name, given in (flags or {}).items():
        if given is not None:
            key = KEYS[FLAGS.get(name, name)]
            entries.append(Entry(key.from_text(given), f"--{name}", 2, key.name))
    config = build(Config, KEYS, _merge(translate(entries, FLAT)))
    for problem in problems(config):
        raise ValueError(f"{where}: {problem}")
    return config


def load_config(
    path: str | os.PathLike[str], sets: Iterable[str] = (), flags: Mapping[str, str | None] | None = None
) -> Config:
    """Reads and checks a JSON configuration.

    sets: "key=value" overrides with dotted keys, the value JSON or else text; later ones win. flags: values (text) by
    the names in `FLAGS` or by key, None = not given. Raises FileNotFoundError, or ValueError with file, key, value and
    remedy.
    """
    where = os.fspath(path)
    return parse_config(read_json_object(where), sets=sets, flags=flags, where=where)


def schema() -> list[dict[str, Any]]:
    """Every key as {"key", "type", "default", "limits", "flag", "flat", "meaning"}, JSON-able."""
    return [
        {"key": name, "type": describe(key.kind), "default": key.default, "limits": key.limits}
        | {part: key.metadata[part] for part in ("flag", "flat", "meaning")}
        for name, key in KEYS.items()
    ]


def schema_text() -> str:
    """The schema for people: key, default, type and limits, other names, and below them the meaning."""
    blocks = []
    for row in schema():
        limits = f", {row['limits']}" if row["limits"] else ""
        other = f"  --{row['flag']}" if row["flag"] else ""
        other += f"  flat: {row['flat']}" if row["flat"] else ""
        default = json.dumps(row["default"])
        blocks.append(f"{row['key']} = {default}  ({row['type']}{limits}){other}\n    {row['meaning']}")
    blocks.append(f"{FOLDER}  (flat only)\n    folder of train_json, val_json, test_json and personalities.txt")
    return "\n".join(blocks)
