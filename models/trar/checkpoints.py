"""TRAR's weights in files: our own directories, and the public code's `epochN.pkl`.

A directory holds all that answering needs: `config.json`, `model.safetensors`, `words.json`, `answers.json`, and in the
configuration the tau that training ended with. A public `.pkl` holds weights, the optimizer, the base rate and the
epoch, and nothing of the rest. No file's code is ever run: pickles are read with `weights_only=True`.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.files import replacing_folder
from data.reading import load_json
from models.trar.configuration import TrarConfig
from models.trar.modeling import TrarModel
from models.trar.published import inferred_settings

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
WORDS_FILE, ANSWERS_FILE = "words.json", "answers.json"
MODEL_TYPE = "trar"
#: What the public code writes into an `epochN.pkl`.
PUBLISHED_KEYS = ("state_dict", "optimizer", "lr_base", "epoch")
_NAMED = 5


@dataclass(frozen=True)
class Checkpoint:
    """A model with the words and answers that its numbers stand for, in the order of the numbers."""

    model: TrarModel
    words: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """The content of an `epochN.pkl`: weights, Adam's state, the base rate as it is decayed, and the epoch."""

    state: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    lr_base: float | None
    epoch: int | None


def save_checkpoint(directory: str | Path, model: TrarModel, words: Sequence[str], answers: Sequence[str]) -> None:
    """Write a directory for `load_checkpoint`; one that is there is replaced once the new one is whole.

    Raises:
        ValueError: words or answers of another number than the model's.
        OSError: it could not be written; what was there before is untouched.
    """
    with replacing_folder(directory) as partial:
        write_checkpoint(partial, model, words, answers)


def write_checkpoint(
    directory: Path,
    model: TrarModel,
    words: Sequence[str],
    answers: Sequence[str],
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """The files of `save_checkpoint`, into a folder that exists; `weights` stand in for the model's own, if shards."""
    _check_numbers(model.config, words, answers, str(directory))
    content = {"model_type": MODEL_TYPE, "tau": model.tau, **model.config.to_dict()}
    for name, part in ((CONFIG_FILE, content), (WORDS_FILE, list(words)), (ANSWERS_FILE, list(answers))):
        (directory / name).write_text(json.dumps(part, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in (weights or model.state_dict()).items()}
    save_file(state, directory / WEIGHTS_FILE, metadata={"format": "pt"})


def load_checkpoint(directory: str | Path, **changes: Any) -> Checkpoint:
    """What `save_checkpoint` wrote, in evaluation mode; `changes` are fields of the configuration, such as
    `evaluation`.

    Raises:
        ValueError: a file that is missing, damaged or does not fit the others.
    """
    folder = Path(directory)
    content = _read_json(folder / CONFIG_FILE, dict)
    if content.pop("model_type", None) != MODEL_TYPE:
        raise ValueError(f'{folder / CONFIG_FILE} does not describe a model of type "{MODEL_TYPE}"')
    tau = content.pop("tau", None)
    try:
        config = TrarConfig.from_dict(content | changes)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}") from error
    words, answers = (tuple(_read_json(folder / name, list)) for name in (WORDS_FILE, ANSWERS_FILE))
    _check_numbers(config, words, answers, str(folder))
    model = TrarModel(config)
    load_weights(model, _read_safetensors(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE))
    model.tau = config.tau_max if tau is None else float(tau)
    return Checkpoint(model.eval(), words, answers)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give the model these weights, to the last name.

    Raises:
        ValueError: names that are missing or unexpected, or tensors of another shape, with the first of each.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    reshaped = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in own.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    kinds = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": reshaped,
    }
    found = [f"{len(names)} {kind}: {_first(names)}" for kind, names in kinds.items() if names]
    if found:
        raise ValueError(f"{source}: the weights do not fit the model; {'; '.join(found)}")
    model.load_state_dict(state, strict=True)


def read_published(path: str | Path) -> Published:
    """An `epochN.pkl` of the public code, or a bare table of weights; `module.` before names is dropped.

    Raises:
        ValueError: the file is missing, damaged, holds code, or holds no weights.
    """
    content = _read_pickle(Path(path))
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no table of weights under 'state_dict': name an epochN.pkl of the public code")
    weights = {str(name).removeprefix("module."): value for name, value in state.items()}
    extra = content if state is not content else {}
    rate, epoch = extra.get("lr_base"), extra.get("epoch")
    return Published(
        weights,
        extra.get("optimizer"),
        None if rate is None else float(rate),
        None if epoch is None else int(epoch),
    )


def load_published(path: str | Path, *, tau: float | None = None, **settings: Any) -> TrarModel:
    """The model in an `epochN.pkl`, in evaluation mode.

    Sizes, head and pooling come from the weights. What weights do not tell, `settings` name: fields of `TrarConfig`,
    with the defaults of the public code's YAML file for the head. `tau` is the temperature that training ended with,
    which the
    file does not hold either: by default `tau_min`, where the published schedules end.

    Raises:
        ValueError: as `read_published`; settings that do not fit the weights.
    """
    state = read_published(path).state
    try:
        config = TrarConfig(**inferred_settings(state, settings))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    model = TrarModel(config)
    load_weights(model, state, str(path))
    model.tau = config.tau_min if tau is None else tau
    return model.eval()


def write_published(
    path: str | Path, model: TrarModel, *, optimizer: Mapping[str, Any] | None, lr_base: float, epoch: int
) -> None:
    """An `epochN.pkl` that the public code resumes from and evaluates.

    Args:
        optimizer: the `state_dict` of Adam over the model's parameters in their order, or None: the public code then
            evaluates the file but cannot resume from it.
        lr_base: the base rate, decayed so far; epoch: epochs done.
    """
    adam = dict(optimizer or {})
    if "param_groups" in adam:  # the public code's Adam is not the fused one, and takes this setting from the file
        adam["param_groups"] = [{**group, "fused": None} for group in adam["param_groups"]]
    content = dict(zip(PUBLISHED_KEYS, (model.state_dict(), adam, float(lr_base), int(epoch)), strict=True))
    torch.save(content, path)


def _check_numbers(config: TrarConfig, words: Sequence[str], answers: Sequence[str], source: str) -> None:
    for name, given, wanted in (("words", words, config.words), ("answers", answers, config.answers)):
        if len(given) != wanted:
            raise ValueError(
                f"{source}: {len(given)} {name} for a model with {wanted}: give those that the model was made with"
            )


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = load_json(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; name a directory that training wrote") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy the directory again") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a {kind.__name__}; copy the directory again")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is missing, damaged or truncated ({error}); copy the directory again") from error


def _read_pickle(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name an epochN.pkl of the public code")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise ValueError(
                f"{path} holds code beside its tensors, which was not run: load it where it was made, and save its "
                "state_dict alone"
            ) from error
        raise ValueError(
            f"{path} is damaged or truncated, or is no file of torch.save ({type(error).__name__}); copy it again"
        ) from error


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
