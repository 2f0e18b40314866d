"""From a configuration to a training run: data, vocabulary, styles, model, trainer."""

import dataclasses
import json
import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from modelscope.trainers.builder import build_trainer

from conf.typed import read_json_object
from config import Config, DataConfig
from data import Split, read_split
from data.demo import render
from data.doctor import drop_bad, examine
from data.loading import ImageCache
from models.ofa import OFAConfig, OFAModel, OFATokenizer, preset_config
from models.ofa.checkpoints import load_model, load_resnet_weights, resolve_source
from models.ofa.styles import STYLE_MAP_FILE, StyleMap, style_words
from preprocessors import OfaStylishImageCaptioningPreprocessor
from preprocessors.images import ImageTransform, load_image
from preprocessors.targets import target_text
from rewards.document_frequency import table_of_split
from tasks.captioning.objectives import build_objective, style_tasks
from tasks.captioning.runs import search_settings
from tasks.captioning.trainer import start_style_tokens
from trainers import distributed
from trainers.checkpointing import CHECKPOINTS, CheckpointFolder
from trainers.distributed import World
from trainers.memory import keep_freed_memory

LOGGER = logging.getLogger("stylecap")
CONF_FILE = "conf.json"  # the configuration of the run, in its folder

#: Settings that may differ when a run is resumed, because they do not change what is learnt.
FREE_ON_RESUME = {
    "data.num_workers",
    "data.cache_images",
    "train.log_every",
    "train.sharding",
    "train.keep_checkpoints",
    "train.tensorboard",
}


def run_training(config: Config, *, resume: bool, rank: int = 0, ranks: int = 1, local_rank: int = 0) -> dict[str, Any]:
    """Train as `config` says, in `config.work_dir`.

    Args:
        resume: continue the run in that folder; a folder without a checkpoint starts from the beginning.
        rank, ranks, local_rank: this process, as `torchrun` numbers it.

    Returns:
        Last step and epoch, the best validation score and the checkpoint that has it.

    Raises:
        ValueError: a fault of the configuration, the data or the checkpoint, with its remedy.
        KeyboardInterrupt: interrupted, after a checkpoint was saved.
    """
    world = distributed.start(rank, ranks, local_rank)
    if world.device.type == "cpu":
        keep_freed_memory()
    try:
        with torch.random.fork_rng(devices=[]):
            # Not kept in a variable: the trainer's data-parallel module must be gone before the process group is.
            return prepare(config, world, resume).train(resume=resume)
    finally:
        distributed.stop()


def prepare(config: Config, world: World, resume: bool) -> Any:
    """The trainer of a run, with everything read and built."""
    run = Path(config.work_dir)
    last = _claim(run, config, resume) if world.is_main else None
    last = world.broadcast(last)
    splits = read_checked_splits(config, world)
    torch.manual_seed(config.seed)
    model, preprocessor = build_model(config, splits["train"], last)
    train, data = config.train, config.data
    preprocessor.tasks = style_tasks(config)
    objective, hooks = build_objective(config, model, preprocessor, splits["train"], world)
    losses = ("label_smoothing", "drop_worst_ratio", "drop_worst_after", "rdrop_alpha")
    used = {"objective", "dropout", "drop_path", *losses}
    settings = {f.name: getattr(train, f.name) for f in dataclasses.fields(train) if f.name not in used}
    return build_trainer(
        "ofa-stylish-captioning",
        {
            "model": model,
            "cfg_file": str(run / "configuration.json"),
            "preprocessor": preprocessor,
            "train_split": splits["train"],
            "val_split": splits.get("val"),
            "objective": objective,
            "run_hooks": hooks,
            "one_a_request": train.objective == "scst",
            "world": world,
            "image_cache": _image_cache(data, splits["train"], run / "cache") if data.cache_images else None,
            "document_frequency": table_of_split(run, splits["train"]) if world.is_main and "val" in splits else None,
            "validation": search_settings(config),
            "num_workers": data.num_workers,
            "seed": config.seed,
            **settings,
        },
    )


# --- the run's folder ------------------------------------------------------------------------------------------------


def _claim(run: Path, config: Config, resume: bool) -> Path | None:
    """Make the folder this run's; returns the checkpoint to resume from."""
    last = CheckpointFolder(run / CHECKPOINTS, 1).find("last")
    if last is not None and not resume:
        raise ValueError(
            f"{run} holds a run with checkpoints: continue it with --resume, train elsewhere with --work_dir DIR, or "
            "remove the folder"
        )
    former = run / CONF_FILE
    if last is not None and former.exists():
        _check_same(read_json_object(str(former)), config.to_dict(), former)
    run.mkdir(parents=True, exist_ok=True)
    former.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    # ModelScope's trainer insists on a configuration file; ours is the one above.
    modelscope = {
        "framework": "pytorch",
        "task": "image-captioning",
        "model": {"type": "stylecap-ofa"},
        "train": {"work_dir": str(run), "max_epochs": config.train.max_epochs, "hooks": []},
        "evaluation": {},
    }
    (run / "configuration.json").write_text(json.dumps(modelscope, indent=2) + "\n", encoding="utf-8")
    return last


def _check_same(former: dict, now: dict, file: Path) -> None:
    """Refuse to resume a run under settings that would make it another run."""
    flat_former, flat_now = _flatten(former), _flatten(now)
    for key in sorted(flat_former.keys() | flat_now.keys()):
        free = key in FREE_ON_RESUME or key.startswith("eval.") or key == "work_dir"
        if not free and flat_former.get(key) != flat_now.get(key):
            raise ValueError(
                f"--resume: {key} was {flat_former.get(key)!r} when the run began ({file}) and is now "
                f"{flat_now.get(key)!r}: set it back, or start a new run with another --work_dir"
            )


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


# --- data ------------------------------------------------------------------------------------------------------------


def read_checked_splits(config: Config, world: World) -> dict[str, Split]:
    """The training split, and the validation split if there is one, without faults.

    Raises:
        ValueError: a split has faults and `data.skip_bad` is false, or there is no training split.
    """
    if config.data.format == "demo" and world.is_main:
        render(config.demo_dir(), images=config.data.demo_images, seed=config.seed)
    world.barrier()
    splits: dict[str, Split] = {}
    for name in ("train", "val"):
        if name == "train" or name in config.splits():
            split = read_split(name, **config.reader_arguments(name))
            report = world.broadcast(examine(split, max_words=config.data.max_tgt_length) if world.is_main else None)
            if report.faults and not config.data.skip_bad:
                found = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.faults.items())
                example = next(iter(report.examples[next(iter(report.faults))]), "")
                raise ValueError(
                    f"split {name} has faults: {found} (such as {example}); see them with the command doctor, then "
                    "correct the data or set data.skip_bad=true to leave these records out"
                )
            split, skipped = drop_bad(split, report)
            if any(skipped.values()) and world.is_main:
                LOGGER.warning("split %s: skipped captions: %s", name, skipped)
            splits[name] = split
    return splits


def _image_cache(data: DataConfig, split: Split, folder: Path) -> ImageCache:
    side = data.max_image_size
    resize = ImageTransform(data.patch_image_size, side, train=False).resize
    file = folder / f"train-{side}.bin"
    return ImageCache(file, split.image_paths, side, lambda path: resize(load_image(path, draft_size=side)))


# --- model -----------------------------------------------------------------------------------------------------------


def build_model(
    config: Config, train: Split, last: Path | None
) -> tuple[OFAModel, OfaStylishImageCaptioningPreprocessor]:
    """The model and its preprocessor: new, from a checkpoint, or as `last` left them."""
    rates = {
        "dropout": config.train.dropout,
        "encoder_drop_path_rate": config.train.drop_path,
        "decoder_drop_path_rate": config.train.drop_path,
    }
    overrides = {**config.model.config, **rates}
    _check_fields(overrides)
    if last is not None:
        preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(last, "train")
        return load_model(last, config_overrides=overrides), preprocessor
    source = resolve_source(config.model.checkpoint, config.model.revision) if config.model.checkpoint else None
    known = _known_styles(source)
    style_map = StyleMap.from_json(config.style.style_map) if config.style.style_map else known
    style_map = style_map or StyleMap.from_styles(train.styles)
    if config.train.objective == "scst":
        _check_step1(source, known, style_map)
    if config.style.unknown_style == "error":
        for style in train.styles:
            style_map.lookup(style)
    preprocessor = _preprocessor(config, _tokenizer(config, train, source, style_map), style_map)
    if source is not None:
        model = load_model(source, config_overrides=overrides)
    else:
        shape: dict[str, Any] = {"vocab_size": len(preprocessor.tokenizer), **overrides}
        preset = config.model.preset
        model = OFAModel(preset_config(preset, **shape) if preset else OFAConfig(**shape))
        if config.model.resnet_weights:
            load_resnet_weights(model, config.model.resnet_weights)
    start_style_tokens(model, preprocessor, known)
    return model, preprocessor


def _check_fields(overrides: dict[str, Any]) -> None:
    fields = [field.name for field in dataclasses.fields(OFAConfig)]
    for name in overrides:
        if name not in fields:
            close = get_close_matches(name, fields, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"model.config.{name} is no field of OFAConfig{hint}")


def _known_styles(source: Path | None) -> StyleMap | None:
    """The style map that a checkpoint carries, if it is one of ours."""
    file = source / STYLE_MAP_FILE if source is not None else None
    return StyleMap.from_json(file) if file is not None and file.exists() else None


def _check_step1(source: Path | None, known: StyleMap | None, wanted: StyleMap) -> None:
    """Step 2 goes on from a model that knows its styles: other tokens it would have to learn from rewards alone."""
    if known is None:
        raise ValueError(f"{source} has no {STYLE_MAP_FILE}: step 2 starts from a checkpoint of step 1; train that one")
    for style in {**wanted.tokens, **known.tokens}:
        asked, has = wanted.tokens.get(style), known.tokens.get(style)
        if asked != has:
            raise ValueError(
                f"style {style} has the token {asked} in style.style_map and {has} in {source}: leave style.style_map "
                "out, the checkpoint brings its own"
            )


def _tokenizer(config: Config, train: Split, source: Path | None, style_map: StyleMap) -> OFATokenizer:
    if config.model.vocabulary == "train":
        words_kept, lowercase = config.data.max_tgt_length, config.data.lowercase
        tasks = style_tasks(config)
        questions = tasks.texts() if tasks else []
        texts = []
        for sample in train:
            # A prompt is read as often as a caption is written, so its words count as much.
            texts += [config.style.prompt.format(style_words(sample.style)), *questions]
            texts.append(target_text(sample.caption, words_kept, lowercase=lowercase))
        # One code a style and one for unknown styles; `style_map.token_ids` checks maps that reach further.
        return OFATokenizer.train(texts, config.model.vocabulary_size, num_codes=len(style_map.tokens) + 1)
    folder = config.model.vocabulary or (source if source is not None and source.is_dir() else None)
    if folder is None:
        raise ValueError(
            f"model.checkpoint {source} is a single file without a vocabulary: set model.vocabulary to a directory "
            "with OFA's vocab.json and merges.txt"
        )
    return OFATokenizer.from_pretrained(str(folder))


def _preprocessor(
    config: Config, tokenizer: OFATokenizer, style_map: StyleMap
) -> OfaStylishImageCaptioningPreprocessor:
    style, data = config.style, config.data
    return OfaStylishImageCaptioningPreprocessor(
        mode="train",
        tokenizer=tokenizer,
        style_map=style_map,
        prompt=style.prompt,
        tokenize_style=style.tokenize_style,
        unknown_style=style.unknown_style,
        patch_image_size=data.patch_image_size,
        max_image_size=data.max_image_size,
        max_tgt_length=data.max_tgt_length,
        lowercase=data.lowercase,
        flip=data.flip,
    )
