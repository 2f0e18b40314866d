"""From a configuration to a captioner: vocabulary, styles, network."""

import dataclasses
import logging
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config import Config
from data import Split
from models.ofa import OFAConfig, OFAModel, OFATokenizer, preset_config
from models.ofa.checkpoints import load_model, load_resnet_weights
from models.ofa.saving import ENDINGS, GENERATION, GUIDANCE
from models.ofa.styles import STYLE_MAP_FILE, StyleMap, style_words
from models.sources import resolve_source
from preprocessors import OfaStylishImageCaptioningPreprocessor
from preprocessors.collate import collate
from preprocessors.targets import target_text
from tasks.base import Built
from tasks.captioning.adapting import start_lora, write_adapted, write_checkpoint
from tasks.captioning.captioner import place
from tasks.captioning.objectives import style_tasks
from tasks.captioning.style_tokens import start_style_tokens
from trainers.ofa_units import shard_units

LOGGER = logging.getLogger("stylecap")


def build_model(
    config: Config, train: Split, last: Path | None
) -> tuple[OFAModel, OfaStylishImageCaptioningPreprocessor]:
    """The model and its preprocessor: new, from a checkpoint, or as `last` left them."""
    rates = {
        "dropout": config.train.dropout,
        "encoder_drop_path_rate": config.train.drop_path,
        "decoder_drop_path_rate": config.train.drop_path,
        "feature_dropout": config.train.feature_dropout,
    }
    overrides = {**config.model.config, **rates}
    _check_fields(overrides)
    if last is not None:
        preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(last, "train")
        return load_model(last, config_overrides=overrides, merged=not config.train.lora), preprocessor
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
    if config.train.lora:
        start_lora(config, model, preprocessor, known)
    else:
        start_style_tokens(model, preprocessor, known)
    return model, preprocessor


def built(config: Config, model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor) -> Built:
    """Model and preprocessor with what training wants to know of them."""
    train = config.train
    freeze_resnet = train.freeze_resnet or bool(train.lora)
    if freeze_resnet:
        model.encoder.embed_images.requires_grad_(False)
    if train.freeze_embeddings:
        model.encoder.embed_tokens.requires_grad_(False)
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if train.sharding == "none":  # shards are flat pieces: they know no other order of axes
        model.encoder.embed_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
        if train.lora:
            return write_adapted(folder, model, preprocessor, weights, generation=decoding_settings(config))
        write_checkpoint(
            folder, model, preprocessor, weights, generation=decoding_settings(config), formats=("safetensors",)
        )

    return Built(
        model,
        preprocessor,
        write,
        collate,
        frozen=(model.encoder.embed_images,) if freeze_resnet else (),
        shard_units=shard_units(model),
        own_rates=[(model.encoder.embed_images, train.tower_lr)] if train.tower_lr else (),
    )


def decoding_settings(config: Config) -> dict[str, Any]:
    """How captions are searched, as a checkpoint keeps it for whoever has no configuration."""
    where_set = {name: getattr(config.eval, name) for name in (*GUIDANCE, ENDINGS)}
    return {name: getattr(config.eval, name) for name in GENERATION} | {
        name: value for name, value in where_set.items() if value
    }


def open_model(
    config: Config, checkpoint: Path, split: Split | None
) -> tuple[OFAModel, OfaStylishImageCaptioningPreprocessor]:
    """The model in `checkpoint`, with the prompt, styles and image sizes that it was trained with.

    Public OFA weights come without: they get the configuration's and the styles of `split`, untrained. Raises
    ValueError for a checkpoint that is broken, or that comes without where there is no `split`.
    """
    if (checkpoint / STYLE_MAP_FILE).exists() or split is None:
        preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(checkpoint)
        return place(load_model(checkpoint), "auto"), preprocessor
    LOGGER.warning("%s has no %s: its model has never seen the styles it is asked for", checkpoint, STYLE_MAP_FILE)
    vocabulary = None if config.model.vocabulary == "train" else config.model.vocabulary
    start = dataclasses.replace(config.model, checkpoint=str(checkpoint), vocabulary=vocabulary, config={})
    plain = dataclasses.replace(config, model=start, train=dataclasses.replace(config.train, lora={}))
    model, preprocessor = build_model(plain, split, None)
    return place(model, "auto"), preprocessor


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
        place=style.place,
        unknown_style=style.unknown_style,
        patch_image_size=data.patch_image_size,
        max_image_size=data.max_image_size,
        max_tgt_length=data.max_tgt_length,
        lowercase=data.lowercase,
        flip=data.flip,
    )
