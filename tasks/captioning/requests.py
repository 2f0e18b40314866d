"""What a captioner is asked for: requests beside those of a split, and whether the model can answer all of them."""

import dataclasses
import logging
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from config import Config
from data.files import digest_of
from data.readers import TABLES
from data.samples import Sample, Split
from evaluation.caption_scores import check_scorer
from models.ofa.saving import GENERATION
from preprocessors.items import MAX_TARGET_TOKENS
from tasks.captioning.controls import WITHOUT_MODEL
from tasks.captioning.records import read_annotations

LOGGER = logging.getLogger("stylecap")


def in_many_styles(
    samples: Sequence[Sample], styles: Sequence[str], *, images: int, styles_each: int, seed: int
) -> list[Sample]:
    """Requests that show what the style changes, for data where no image is asked for in two: a few images, drawn by
    `seed`, each in a few styles of `styles`, drawn for it. Empty where an image has two already, or nothing is to draw.
    """
    first = {sample.image_id: sample for sample in reversed(samples)}
    number = min(styles_each, len(styles))
    if len(first) < len(samples) or images == 0 or number < 2:
        return []
    rng = random.Random(seed)
    drawn = rng.sample(sorted(first), min(images, len(first)))
    return [
        replace(first[image], style=style, caption="", references=())
        for image in drawn
        for style in rng.sample(sorted(styles), number)
    ]


def predicted_by(config: Config, control: str | None) -> dict[str, Any]:
    """The settings that captions follow, beside the checkpoint and the split."""
    evaluation, data = config.eval, config.data
    keys = ("image_dir", "image_suffix", "patch_image_size", "max_image_size", "default_style")
    files = {"styles": data.styles}
    if control in WITHOUT_MODEL:  # which look for their captions among those of training
        files["train"] = config.reader_arguments("train")["annotations"]
    return {
        "decoding": {name: getattr(evaluation, name) for name in GENERATION},
        "sensitivity": [evaluation.sensitivity_images, evaluation.sensitivity_styles, config.seed],
        "strict": evaluation.strict,
        "tokenizer": evaluation.tokenizer,
        "guidance": [evaluation.style_guidance, evaluation.image_guidance],
        "intensity": evaluation.style_intensity,
        "features": data.cache_features,
        "data": {key: getattr(data, key) for key in keys},
        "files": {name: digest_of(Path(file)) for name, file in files.items() if file is not None},
        "model": dataclasses.asdict(config.model),
        "style": dataclasses.asdict(config.style),
    }


# --- what can be found before hours have passed ----------------------------------------------------------------------


def check_requests(config: Config, model: Any, preprocessor: Any, records: Mapping[str, Split]) -> None:
    """ValueError, before the first update, for what a later one, the validation or an evaluation would stumble over."""
    positions = model.config.max_position_embeddings
    for key, longest in (("eval.max_len_b", config.eval.max_len_b), ("scst.max_len_b", config.scst.max_len_b)):
        # A step more than the longest caption: the end token, and what sampling draws to see whether it ends.
        if longest + 2 > positions and (key.startswith("eval") or config.train.objective == "scst"):
            raise ValueError(f"{key} = {longest}, but the model has positions for {positions - 2} tokens: lower it")
    for name, split in records.items():
        for style in dict.fromkeys(request.style for request in split.requests()):
            prompt = preprocessor.builder.prompt.text(style)  # ValueError, with the nearest names, for an unknown one
            length = len(preprocessor.tokenizer(prompt)["input_ids"])
            if length > positions:
                raise ValueError(
                    f"the prompt of style {style[:40]!r} (split {name}) has {length} tokens, and the model has "
                    f"positions for {positions}: shorten the style's name or style.prompt"
                )
    check_lengths(records["train"].captions, preprocessor, positions)
    if "val" in records:
        check_references(records["val"])
    _check_files(config)


def check_lengths(captions: Iterable[str], preprocessor: Any, positions: int) -> None:
    """Say how many training captions are cut, for they have more tokens than the model has positions for.

    ValueError for one about which a question of `preprocessor.tasks` is too long, for a question cannot be cut.
    """
    builder, tasks = preprocessor.builder, preprocessor.tasks

    def count(text: str) -> int:
        return len(preprocessor.tokenizer.encode_text(text))

    room = max(map(count, tasks.longest("", builder.prompt, count)), default=0) + 10 if tasks else 1
    longer = 0
    for caption in captions:
        if 4 * len(caption) + builder.max_tgt_length + room <= min(positions, MAX_TARGET_TOKENS):
            continue  # a token is one byte at least: not worth a closer look
        text = builder.target_text(caption)
        longer += count(text) > builder.max_target_tokens
        for question in tasks.longest(text, builder.prompt, count) if tasks else ():
            if count(question) + 2 > positions:
                raise ValueError(
                    f"a question about the training caption {caption[:40]!r}... has {count(question) + 2} tokens, and "
                    f"the model has positions for {positions}: shorten the caption, or lower data.max_tgt_length"
                )
    if longer:
        LOGGER.warning("%d training captions have over %d tokens and are cut", longer, builder.max_target_tokens)


def check_references(split: Split) -> None:
    """ValueError for an image without a reference that says anything, which cannot be scored."""
    bare = [one for one in split.requests() if not any(text.strip() for text in one.references)]
    if bare:
        more = f" ({len(bare)} such)" if len(bare) > 1 else ""
        raise ValueError(
            f"split {split.name}: image {bare[0].image_id} has only empty references in style {bare[0].style}{more}: "
            "correct the data, or set data.skip_bad=true to leave them out"
        )


def check_judging(config: Config, records: Split) -> None:
    """ValueError, before captions are written, for what their scores need and is not there."""
    check_references(records)
    check_scorer(config.eval.scorer, config.eval.tokenizer)
    if "train" in config.splits():
        read_annotations(config, "train")
    check_writable(Path(config.work_dir))


def check_writable(folder: Path) -> None:
    """OSError for a folder that cannot be made or written to."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is not writable: choose another folder with --work_dir")


def _check_files(config: Config) -> None:
    """ValueError where the split that `eval` will score has no file, a warning where another has none."""
    for split in config.splits():
        file = Path(config.reader_arguments(split)["annotations"])
        if file.is_file() or (file.is_dir() and config.data.format in TABLES):
            continue
        if split == config.eval.split:
            raise ValueError(f"{file}: no such annotation file, and eval.split is {split}: correct data.{split}")
        LOGGER.warning("%s: no such annotation file: the split %s cannot be evaluated", file, split)
