"""What evaluation and inference take from a run: its data, its model, and the place of their results."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from config import Config
from data import Split, read_split
from data.files import replacing
from models.ofa.checkpoints import resolve_source
from models.ofa.saving import GENERATION
from models.ofa.styles import STYLE_MAP_FILE
from tasks.captioning.captioner import Captioner, place
from trainers.checkpointing import CHECKPOINTS, CheckpointFolder

LOGGER = logging.getLogger("stylecap")


def read_annotations(config: Config, name: str) -> Split:
    """The split of that name as its file has it; the rendered set is drawn if it is not there yet.

    Raises ValueError for a split that is not configured, empty or broken.
    """
    arguments = config.reader_arguments(name)
    if config.data.format == "demo":
        from data.demo import render

        render(config.demo_dir(), images=config.data.demo_images, seed=config.seed)
    return read_split(name, **arguments)


def open_split(config: Config, name: str) -> Split:
    """As `read_annotations`, and with `data.skip_bad` without faulty records, for which every image is looked at."""
    split = read_annotations(config, name)
    if not config.data.skip_bad:
        return split
    from data.doctor import drop_bad, examine

    split, skipped = drop_bad(split, examine(split, max_words=config.data.max_tgt_length))
    if any(skipped.values()):
        LOGGER.warning("split %s: skipped captions: %s", name, skipped)
    return split


def find_checkpoint(work_dir: str, checkpoint: str | None) -> Path:
    """The weights to use: `checkpoint` (directory, file or hub id), else the run's best, else its last.

    Raises ValueError where there are none.
    """
    if checkpoint is not None:
        return resolve_source(checkpoint)
    folder = CheckpointFolder(Path(work_dir) / CHECKPOINTS, 1)
    found = folder.find("best") or folder.find("last")
    if found is None:
        raise ValueError(
            f"{folder.root} holds no checkpoint: train first, name the run's folder with --work_dir, or a model with "
            "--checkpoint"
        )
    return found


def open_captioner(config: Config, checkpoint: Path, split: Split | None = None) -> Captioner:
    """The model in `checkpoint`, with the prompt, styles and image sizes that it was trained with.

    Public OFA weights come without: they get the configuration's and the styles of `split`, untrained. Raises
    ValueError for a checkpoint that is broken, or that comes without where there is no `split`.
    """
    # The types are those of training, so that scores are those of its validation; no CPU computes in float16.
    dtype: Literal["float32", "bfloat16", "float16"] = config.train.dtype
    if dtype == "float16" and not torch.cuda.is_available():
        dtype = "float32"
    if (checkpoint / STYLE_MAP_FILE).exists() or split is None:
        return Captioner.from_directory(checkpoint, dtype=dtype)
    from tasks.captioning.build import build_model

    LOGGER.warning("%s has no %s: its model has never seen the styles it is asked for", checkpoint, STYLE_MAP_FILE)
    vocabulary = None if config.model.vocabulary == "train" else config.model.vocabulary
    start = replace(config.model, checkpoint=str(checkpoint), vocabulary=vocabulary, config={})
    model, preprocessor = build_model(replace(config, model=start), split, None)
    return Captioner(place(model, "auto"), preprocessor, dtype=dtype)


def search_settings(config: Config) -> dict[str, Any]:
    """The keywords of `Captioner.caption` that a configuration sets."""
    names = ("batch_size", *GENERATION)
    return {name: getattr(config.eval, name) for name in names} | {"num_workers": config.data.num_workers}


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
