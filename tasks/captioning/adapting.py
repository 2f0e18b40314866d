"""Training of an adapter (LoRA) in place of a captioner's weights, and how it is written down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config import Config
from data.files import replacing_folder
from models.ofa import OFAModel
from models.ofa.adapters import BASE, LoraSettings, add_lora, write_adapter
from models.ofa.saving import write_model
from models.ofa.styles import StyleMap, initial_style_embeddings
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.style_tokens import start_style_tokens


def start_lora(
    config: Config, model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor, known: StyleMap | None
) -> None:
    """Put an adapter into a model that has not been trained here yet; the styles' tokens begin in it as they would
    without: the frozen embedding stays as it came, so that adapters of one public model share it."""
    weight = model.get_input_embeddings().weight
    ids = sorted(initial_style_embeddings(weight, preprocessor.style_map, preprocessor.tokenizer))
    before = weight.detach()[ids].clone()
    start_style_tokens(model, preprocessor, known)
    rows = dict(zip(ids, weight.detach()[ids].clone(), strict=True))
    with torch.no_grad():
        weight[ids] = before
    add_lora(model, LoraSettings(**config.train.lora), rows)


def write_adapted(
    folder: Path, model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor, weights: Any, **settings: Any
) -> None:
    """A checkpoint of an adapter: what every checkpoint has, with the adapter in place of the weights.

    The frozen model is written once, beside a run's checkpoints.
    """
    base = folder.parent / BASE
    if not base.exists():
        with replacing_folder(base) as partial:
            write_checkpoint(partial, model, preprocessor, weights, formats=("safetensors",), **settings)
    write_checkpoint(folder, model, preprocessor, weights, formats=(), **settings)
    write_adapter(folder, model, f"../{BASE}", weights)


def write_checkpoint(
    folder: Path,
    model: OFAModel,
    preprocessor: OfaStylishImageCaptioningPreprocessor,
    weights: Mapping[str, Tensor],
    **settings: Any,
) -> None:
    """A model with its preprocessor; `settings` as `write_model` has them."""
    write_model(
        folder,
        model,
        preprocessor.tokenizer,
        style_map=preprocessor.style_map,
        preprocessor=preprocessor.settings,
        weights=weights,
        **settings,
    )
