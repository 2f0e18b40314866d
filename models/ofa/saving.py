"""A checkpoint directory that ModelScope, transformers and this project read, written whole or not at all."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from data.files import replacing_folder
from data.reading import load_json
from models.ofa.adapters import base_tensors
from models.ofa.modeling import OFAModel
from models.ofa.styles import STYLE_MAP_FILE, StyleMap
from models.ofa.tokenization import OFATokenizer

CONFIG_FILE = "config.json"
CONFIGURATION_FILE = "configuration.json"
SAFETENSORS_FILE = "model.safetensors"
BIN_FILE = "pytorch_model.bin"
#: Names under which ModelScope's registries hold our classes.
TASK, FRAMEWORK = "image-captioning", "pytorch"
MODEL, PREPROCESSOR, PIPELINE = "stylecap-ofa", "ofa-stylish-image-captioning", "stylecap-ofa-captioning"
#: The settings of beam search that a checkpoint carries.
GENERATION = ("beam_size", "max_len_b", "min_len", "no_repeat_ngram_size", "length_penalty")
#: Those of guidance, which it carries where they are not 0.
GUIDANCE = ("style_guidance", "image_guidance")
#: The words that no caption ends with, which it carries where there are any.
ENDINGS = "no_end_after"


def save_directory(
    directory: str | Path,
    model: OFAModel,
    tokenizer: OFATokenizer,
    *,
    style_map: StyleMap,
    preprocessor: Mapping[str, Any],
    generation: Mapping[str, Any],
    formats: Sequence[Literal["safetensors", "bin"]] = ("safetensors", "bin"),
) -> None:
    """Write everything that inference needs; a directory that is there is replaced once the new one is whole.

    Args:
        model: on any device; not wrapped for parallel training.
        preprocessor: the settings of `OfaStylishImageCaptioningPreprocessor`, as its `settings` holds them.
        generation: the settings of `beam_search` named in `GENERATION`, and those of `GUIDANCE` and `ENDINGS` that
            are set.
        formats: of the weights; "bin" is what ModelScope's own OFA reads, either serves everything else.

    Raises:
        OSError: it could not be written; what was there before is untouched.
        ValueError: unknown or lacking settings of `generation`, or a vocabulary larger than the model's.
    """
    with replacing_folder(directory) as partial:
        write_model(
            partial,
            model,
            tokenizer,
            style_map=style_map,
            preprocessor=preprocessor,
            generation=generation,
            formats=formats,
        )


def write_model(
    directory: Path,
    model: OFAModel,
    tokenizer: OFATokenizer,
    *,
    style_map: StyleMap,
    preprocessor: Mapping[str, Any],
    generation: Mapping[str, Any],
    formats: Sequence[Literal["safetensors", "bin"]] = ("safetensors", "bin"),
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """The files of `save_directory`, into a folder that exists: for what is written beside other files.

    `weights` stand in for the model's own, which may be shards; those of an adapted model are its frozen ones. Without
    `formats`, there are none.
    """
    if set(generation) - {*GUIDANCE, ENDINGS} != set(GENERATION):
        raise ValueError(f"the settings of generation are {', '.join(GENERATION)}; given: {', '.join(generation)}")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the vocabulary has {len(tokenizer)} entries, but the model's vocab_size is {model.config.vocab_size}: "
            "they do not belong together"
        )
    # As transformers does it: what the file says of the weights is what they are now.
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(directory)
    _generation_config(model, generation).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    style_map.to_json(directory / STYLE_MAP_FILE)
    sections = {
        "framework": FRAMEWORK,
        "task": TASK,
        "model": {"type": MODEL},
        "preprocessor": {"type": PREPROCESSOR, **preprocessor},
        "pipeline": {"type": PIPELINE, "generation": dict(generation)},
    }
    text = json.dumps(sections, indent=2, ensure_ascii=False) + "\n"
    (directory / CONFIGURATION_FILE).write_text(text, encoding="utf-8")
    write_weights(directory, model, model.state_dict() if weights is None else weights, formats)


def write_weights(
    directory: Path, model: OFAModel, weights: Mapping[str, Tensor], formats: Sequence[Literal["safetensors", "bin"]]
) -> None:
    """The files of `weights`, whose names are those of `model`."""
    if not formats:
        return
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in base_tensors(weights).items()}
    try:
        if "safetensors" in formats:
            # transformers asks for the "format"
            save_file(_each_once(model, state), directory / SAFETENSORS_FILE, metadata={"format": "pt"})
        if "bin" in formats:
            torch.save(state, directory / BIN_FILE)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch says of a full disk only that its container is at an unexpected position
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        free = shutil.disk_usage(directory).free // 2**20
        raise OSError(
            f"cannot write the weights into {directory} ({error}); {free} MB are free there: make room, or choose "
            "another folder"
        ) from error


def read_configuration(directory: str | Path) -> dict[str, Any]:
    """The content of a directory's `configuration.json`: sections `preprocessor` and `pipeline` hold the settings.

    Raises:
        ValueError: the file is missing or broken, or was not written by `save_directory`.
    """
    path = Path(directory) / CONFIGURATION_FILE
    try:
        content = load_json(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; name a directory written by training") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); name a directory written by training") from error
    for section, kind in (("model", MODEL), ("preprocessor", PREPROCESSOR), ("pipeline", PIPELINE)):
        found = content.get(section) if isinstance(content, dict) else None
        if not isinstance(found, dict) or found.get("type") != kind:
            raise ValueError(f'{path}: {section}.type is not "{kind}"; name a directory written by training')
    return content


def _each_once(model: OFAModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with tied weights under their first name only, since safetensors refuses shared memory."""
    first: dict[int, str] = {}
    for name, tensor in base_tensors(model.state_dict(keep_vars=True)).items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values()}


def _generation_config(model: OFAModel, generation: Mapping[str, Any]) -> GenerationConfig:
    """The same settings for transformers' `generate`, which counts the end token among the new ones."""
    config, beams = model.config, generation["beam_size"]
    return GenerationConfig(
        num_beams=beams,
        max_new_tokens=generation["max_len_b"] + 1,
        min_new_tokens=generation["min_len"],
        no_repeat_ngram_size=generation["no_repeat_ngram_size"],
        # transformers refuses to save what has no effect
        length_penalty=generation["length_penalty"] if beams > 1 else None,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        use_cache=False,
    )
