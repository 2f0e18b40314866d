"""Weights from files: ModelScope directories, OFA-Sys's for transformers, fairseq `.pt` files, and ResNets.

Nothing here runs code that a file brings along: pickles are read with `weights_only=True`. Loading is strict; what does
not fit is named.
"""

import argparse
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.initialization import no_init_weights

from data.reading import load_json
from models.ofa.adapters import attach, base_of, is_adapter, merge
from models.ofa.configuration import SIZES, OFAConfig, numbers_of
from models.ofa.conversion import (
    first_names,
    inferred_config,
    modelscope_names,
    size_differences,
    without_wrappers,
)
from models.ofa.modeling import OFAModel
from models.ofa.resnet import ResNet
from models.ofa.saving import BIN_FILE, CONFIG_FILE, SAFETENSORS_FILE, save_directory
from models.ofa.strictness import check_fit, check_tables, complete
from models.ofa.tokenization import OFATokenizer
from models.sizes import check_positive, check_size

__all__ = [
    "load_model",
    "load_resnet_weights",
    "read_config",
    "read_state_dict",
    "save_directory",
]

LOGGER = logging.getLogger("stylecap")
_WEIGHT_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}

# So that the Auto classes of transformers read our directories too.
AutoConfig.register(OFAConfig.model_type, OFAConfig, exist_ok=True)
AutoModel.register(OFAConfig, OFAModel, exist_ok=True)
AutoTokenizer.register(OFAConfig, fast_tokenizer_class=OFATokenizer, exist_ok=True)


def load_model(
    source: str | Path, *, config_overrides: Mapping[str, Any] | None = None, merged: bool = True
) -> OFAModel:
    """A model in evaluation mode, float32 whatever the file's type, with all its weights from `source`.

    Args:
        source: a directory of ModelScope, of transformers (OFA-Sys) or of ours, with `config.json` and
            `model.safetensors` or else `pytorch_model.bin`; or a file of weights alone, such as a fairseq `.pt`, whose
            configuration is inferred from the tensors; or a folder of an adapter (`models.ofa.adapters`).
        config_overrides: fields of `OFAConfig` that win over the directory's or the inferred ones.
        merged: of an adapter: it is added to the weights; otherwise it stays beside them, to be trained further.

    Raises:
        ValueError: a file that is missing, damaged, or holds code; weights that do not fit the configuration, with
            the names that are missing, unexpected or of another shape, and what to set.
    """
    source = Path(source)
    if is_adapter(source):
        return _load_adapted(source, config_overrides, merged)
    state = read_state_dict(source)
    if source.is_dir():
        config = read_config(source, config_overrides)
    else:
        try:
            config = inferred_config(state, config_overrides or {})
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
    try:
        check_positive(config, SIZES)
        check_size(numbers_of(config), state, "; ".join(size_differences(state, config)))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with no_init_weights():
        model = OFAModel(config)
    model.tie_weights()
    try:
        full = complete(model, state)
        check_fit(model, full, config)
        check_tables(model, state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    model.load_state_dict(full, strict=True)
    return model.eval()


def _load_adapted(folder: Path, overrides: Mapping[str, Any] | None, merged: bool) -> OFAModel:
    """The model of an adapter, with the adapter."""
    model = load_model(base_of(folder), config_overrides=overrides)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    attach(model, folder, trained=not merged)
    if merged:
        merge(model)
        for parameter in trained:
            parameter.requires_grad_(True)
    return model.eval()


def read_config(directory: str | Path, overrides: Mapping[str, Any] | None = None) -> OFAConfig:
    """The `OFAConfig` in a directory's `config.json`, with `overrides`.

    Raises:
        ValueError: the file is missing or broken, is not OFA's, or has values that cannot be.
    """
    path = Path(directory) / CONFIG_FILE
    try:
        content = load_json(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; weights need a {CONFIG_FILE} beside them") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy it again") from error
    if not isinstance(content, dict) or content.get("model_type", OFAConfig.model_type) != OFAConfig.model_type:
        found = content.get("model_type") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'{path} describes {found!r}, not a model of type "{OFAConfig.model_type}"')
    try:
        # The weights are float32 here, whatever type they were published in.
        return OFAConfig.from_dict(content | dict(overrides or {}) | {"dtype": "float32"})
    except Exception as error:  # the validators of huggingface_hub have exception classes of their own
        raise ValueError(f"{path}: {error}") from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a directory's weights or of a file, under ModelScope's names.

    Raises:
        ValueError: as `load_model`.
    """
    return modelscope_names(read_tensors(path))


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a directory's weights or of a file (safetensors, `torch.save`), under the names they have there.

    Raises:
        ValueError: the file is missing, damaged, holds code, or holds no flat table of tensors.
    """
    path = _weights_file(Path(path))
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for key in ("model", "state_dict"):  # fairseq's, and that of trainers, around the weights
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no table of weights but a {type(content).__name__}; name a file of weights")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{path} holds more than tensors: {first_names(others)}; name a file of weights")
    return dict(content)


def load_resnet_weights(model: OFAModel, path: str | Path) -> list[str]:
    """Start the image tower from a ResNet in torchvision's format; its last stage and classifier are not needed.

    Returns:
        The names in the file that were ignored.

    Raises:
        ValueError: the file cannot be read, or its first three stages are not those of the model's `resnet_type`.
    """
    tower = model.encoder.embed_images
    if not isinstance(tower, ResNet):
        raise ValueError(
            f'resnet_type "{model.config.resnet_type}" brings its own weights: leave model.resnet_weights out, or set '
            "resnet_type to a ResNet"
        )
    state = without_wrappers(read_tensors(path))
    parts = tuple(f"{name}." for name, _ in tower.named_children())
    wanted = {name: tensor for name, tensor in state.items() if name.startswith(parts)}
    ignored = [name for name in state if name not in wanted]
    try:
        wanted = complete(tower, wanted)
        check_fit(tower, wanted)
    except ValueError as error:
        raise ValueError(
            f"{path}: its first three stages are not those of {model.config.resnet_type}, which is made of bottleneck "
            f"blocks: {error}; use the weights of that type, or set resnet_type to the one they are of"
        ) from error
    tower.load_state_dict(wanted, strict=True)
    LOGGER.info("image tower from %s; not used of it: %s", path, first_names(ignored) or "nothing")
    return ignored


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        files = [path / name for name in (SAFETENSORS_FILE, BIN_FILE)]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise ValueError(f"{path} has no weights: neither {SAFETENSORS_FILE} nor {BIN_FILE} is in it")
        return found
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name a directory or a file of weights")
    return path


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}); copy or download it again") from error


def _read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, as far as it is data: tensors, containers, and fairseq's plain argument object."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Mapped where possible: a training checkpoint holds the optimizer too, which nobody needs in memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is None:
            reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise ValueError(
                f"{path} is damaged or truncated, or is no file of torch.save ({reason}); copy or download it again"
            ) from error
        remedy = f"torch.load({os.fspath(path)!r}, map_location='cpu', weights_only=False)['model']"
        raise ValueError(
            f"{path} holds code beside its tensors ({code[1]}), which was not run. If you trust whoever made it, save "
            "the tensors alone, where the packages it was made with are installed: "
            f"python -c \"import torch; torch.save({{'model': {remedy}}}, 'weights.pt')\""
        ) from error
