"""VisualBERT's checkpoints: the original's `.th` files, transformers' directories and ours, read and written.

Tensors pass through unchanged, to the bit. Nothing here runs code that a file brings along.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VisualBertConfig
from transformers.initialization import no_init_weights

from data.plain_files import load_torch
from data.reading import load_json
from models.sizes import LAYER, check_positive, check_size
from models.visualbert.configuration import HEADS, OWN_FIELDS, VisualBERTConfig, inferred_config, with_answers
from models.visualbert.modeling import VisualBERTModel
from models.visualbert.naming import TIED, to_original, to_transformers

logger = logging.getLogger("stylecap")

Format = Literal["stylecap", "original", "transformers"]
CONFIG_FILE = "config.json"
#: Files of weights in a directory, the first that is there is read.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "model.th")
#: Under these names other programs keep the weights in a larger dictionary.
_INNER = ("model", "state_dict")
_SHOWN = 5


def convert(source: str | Path, out: str | Path, *, to: Format = "stylecap", **overrides: Any) -> VisualBERTConfig:
    """Write the checkpoint `source` into the directory `out`, in one of three forms; returns its configuration.

    "stylecap": `config.json` and `model.safetensors`, which transformers reads too; "transformers": the same, and the
    configuration says nothing that transformers does not know; "original": `model.th` with the original's names, and
    `config.json`, since the file cannot tell the number of attention heads.

    Args:
        source: a `.th` file, a directory of transformers, or one that this function wrote.
        overrides: as `read_checkpoint`.

    Raises:
        ValueError: as `read_checkpoint`; another form; `out` is there.
    """
    if to not in ("stylecap", "original", "transformers"):
        raise ValueError(f'cannot convert to {to!r}: choose "stylecap", "original" or "transformers"')
    state, config = read_checkpoint(source, **overrides)
    _check_fit(config, state, source)
    write_checkpoint(out, state, config, to=to)
    return config


def read_checkpoint(source: str | Path, **overrides: Any) -> tuple[dict[str, Tensor], VisualBERTConfig]:
    """The tensors of a checkpoint under transformers' names, tied ones under both, and its configuration.

    A `.th` file comes without configuration: it is inferred, with 64 numbers an attention head as in every BERT.

    Args:
        overrides: fields of `VisualBERTConfig` that win, for instance `num_attention_heads`, or `head` where a head
            with two outputs is not NLVR2's.

    Raises:
        ValueError: a file that is missing, damaged, holds code, or is no VisualBERT's.
    """
    source = Path(source)
    tensors = read_weights(source)
    given = _read_config(source / CONFIG_FILE) if (source / CONFIG_FILE).is_file() else {}
    try:
        state = to_transformers(tensors)
        config = inferred_config(state, **(given | overrides))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return state, config


def load_model(source: str | Path, *, answers: Sequence[str] | None = None, **overrides: Any) -> VisualBERTModel:
    """A model in evaluation mode, float32, with all weights of a checkpoint.

    Args:
        answers: the answer list that head "vqa" belongs to; it must be as long as the head.
        overrides: as `read_checkpoint`.

    Raises:
        ValueError: as `read_checkpoint`; weights or answers that do not fit the model.
    """
    state, config = read_checkpoint(source, **overrides)
    _check_fit(config, state, source)
    with no_init_weights():
        model = VisualBERTModel(config)
    model.load_state_dict(state)
    if answers is not None:
        model.config = with_answers(config, answers)
    return model.eval()


def load_body(model: VisualBERTModel, source: str | Path) -> list[str]:
    """Start `model` from a checkpoint with another head, in place; returns the names that keep their initial values.

    A head of the same kind and shape is loaded too.

    Raises:
        ValueError: as `read_checkpoint`; the body is of another size.
    """
    state, config = read_checkpoint(source)
    own = model.state_dict()
    body = {name: tensor for name, tensor in own.items() if name.startswith("visual_bert.")}
    _compare_shapes(body, {name: state[name] for name in state if name.startswith("visual_bert.")}, source)
    same_head = config.head == model.config.head
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in body or (same_head and name in own and own[name].shape == tensor.shape)
    }
    kept = [name for name in own if name not in fitting]
    model.load_state_dict(fitting, strict=False)
    if kept:
        logger.info("%s has no %s: they start anew", source, ", ".join(kept))
    return kept


def write_checkpoint(
    out: str | Path, state: Mapping[str, Tensor], config: VisualBERTConfig, *, to: Format = "stylecap"
) -> None:
    """Write tensors under transformers' names into a new directory, whole or not at all; the forms of `convert`.

    Raises:
        ValueError: `out` is there.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists: name a directory that does not, or remove it")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        write_files(partial, state, config, to=to)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_files(
    folder: Path, state: Mapping[str, Tensor], config: VisualBERTConfig, *, to: Format = "stylecap"
) -> None:
    """The files of `write_checkpoint`, into a folder that exists: for what is written beside other files."""
    if to == "original":
        torch.save(to_original(state), folder / "model.th")
    else:
        once = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if name not in TIED}
        save_file(once, folder / "model.safetensors", metadata={"format": "pt"})
    _write_config(folder / CONFIG_FILE, config, to)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of a directory's file of weights, under the names they have there.

    Raises:
        ValueError: the file is missing or damaged, or holds anything but tensors and plain values.
    """
    if path.is_dir():
        found = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path} has no file of weights: it needs one of {', '.join(WEIGHT_FILES)}")
        path = found[0]
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else load_torch(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error
    while isinstance(content, Mapping) and (inner := [content[name] for name in _INNER if name in content]):
        content = inner[0]
    rows = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: value for name, value in rows if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise ValueError(f"{path} holds no named tensors: name a file of weights")
    return tensors


def _read_config(path: Path) -> dict[str, Any]:
    """The fields of a `config.json` that count, `head` among them where it says which."""
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): copy it again") from error
    if not isinstance(content, dict) or content.get("model_type") != VisualBERTConfig.model_type:
        found = content.get("model_type") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'{path} describes {found!r}, not a model of type "{VisualBERTConfig.model_type}"')
    heads = {name: head for head, name in HEADS.items()}
    named = [heads[name] for name in content.get("architectures") or [] if name in heads]
    # transformers' own default pads with 1; no BERT vocabulary does
    unwanted = {"pad_token_id", "bos_token_id", "eos_token_id", "dtype", "torch_dtype", "architectures"}
    fields = {name: value for name, value in content.items() if name not in unwanted}
    if named:
        fields.setdefault("head", named[0])
    if "id2label" in fields:
        fields["id2label"] = {int(index): name for index, name in fields["id2label"].items()}
        fields["num_labels"] = len(fields["id2label"])
    return fields


def _write_config(path: Path, config: VisualBERTConfig, to: Format) -> None:
    content = config.to_dict() | {"architectures": [HEADS[config.head]]}
    if to == "transformers":
        for name in OWN_FIELDS:
            del content[name]
        content = VisualBertConfig.from_dict(content).to_dict()
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_fit(config: VisualBERTConfig, state: Mapping[str, Tensor], source: str | Path) -> None:
    """See that the tensors are exactly those of the model of `config`, without making it."""
    try:
        check_positive(config, ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"))
        check_size(config.num_hidden_layers * LAYER, state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with torch.device("meta"):
        own = VisualBERTModel(config).state_dict()
    _compare_shapes(own, state, source)


def _compare_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str | Path) -> None:
    differing = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    found = [f"{kind}: {_first(names)}" for kind, names in differing.items() if names]
    if found:
        raise ValueError(f"{source}: the weights do not fit the model; " + "; ".join(found))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")
