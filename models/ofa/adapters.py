"""LoRA (Hu et al., arXiv:2106.09685) by the library `peft`: small trained matrices beside frozen ones.

A folder of an adapter has peft's own files, `adapter_model.safetensors` and `adapter_config.json`, and beside them what
every checkpoint has but the weights; the configuration names the folder of the model that it was trained on. Rows of
the embedding (the styles' tokens) may be trained with it; encoder, decoder and output share them.

peft is an optional package and slow to import: it is imported where it is needed.
"""

import dataclasses
import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.files import write_json
from data.reading import load_json

if TYPE_CHECKING:
    from models.ofa.modeling import OFAModel

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
#: Beside a run's checkpoints: the model that its adapters belong to.
BASE = "base"
NAME = "default"
_PREFIX = "base_model.model."  # peft's, of every name in a file


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """What is trained: matrices of rank `rank` beside the linear layers called `targets`, scaled by `alpha` / `rank`.

    A target is the end of a module's name: `q_proj`, or `cross_attn.q_proj`, or `decoder.layers.0.fc1`.
    """

    rank: int = 8
    alpha: float = 16
    targets: Sequence[str] = ("q_proj", "v_proj")
    dropout: float = 0.0


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter in place of a model's weights."""
    return (Path(folder) / ADAPTER_CONFIG).is_file() and (Path(folder) / ADAPTER_FILE).is_file()


def peft_library() -> Any:
    """The module `peft`. ValueError, with the remedy, where it is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError("LoRA (train.lora, adapters) needs the package peft: make install EXTRAS=lora")
    import peft

    return peft


def add_lora(model: "OFAModel", settings: LoraSettings, tokens: Mapping[int, Tensor]) -> None:
    """Put an adapter into a model, in place: it alone is trained from now on.

    Args:
        tokens: id -> vector [D] that a row of the embedding is trained from; the row itself stays as it is.

    Raises:
        ValueError: peft is not installed, or a target matches no linear layer that may be adapted.
    """
    peft = peft_library()
    check_targets(model, settings.targets)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        lora_dropout=settings.dropout,
        trainable_token_indices=sorted(tokens) or None,
    )
    peft.inject_adapter_in_model(config, model, NAME)
    if tokens:
        rows = token_rows(model)
        with torch.no_grad():
            rows.copy_(torch.stack([tokens[token] for token in sorted(tokens)]))


def adaptable(model: nn.Module) -> list[str]:
    """Names of the linear layers that may be adapted: all but the image tower's and the output."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "embed_images" not in name and not name.endswith("output_projection")
    ]


def check_targets(model: nn.Module, targets: Sequence[str]) -> None:
    """ValueError, with the names that there are, for a target that is the end of none of them, or of other modules."""
    known = adaptable(model)
    for target in targets:
        matched = {name for name, _ in model.named_modules() if name == target or name.endswith(f".{target}")}
        if not matched or matched - set(known):
            ends = sorted({name.rpartition(".")[2] for name in known})
            what = "matches no module" if not matched else f"matches {min(matched - set(known))}, which is not adapted"
            raise ValueError(f'train.lora.targets: "{target}" {what}; the linear layers are called {", ".join(ends)}')


def token_rows(model: "OFAModel", name: str = NAME) -> nn.Parameter:
    """The trained rows [E, D] of the embedding, in the order of their ids."""
    wrapper: Any = model.encoder.embed_tokens
    return wrapper.token_adapter.trainable_tokens_delta[name]


# --- files -----------------------------------------------------------------------------------------------------------


def adapter_tensors(model: "OFAModel", weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The adapter's tensors, under the names of peft's files; `weights` stand in for the model's own."""
    state = dict(model.state_dict() if weights is None else weights)
    # Whether to save the embedding is peft's own question, and it may ask the hub: never.
    library = peft_library()
    found = library.get_peft_model_state_dict(model, state, adapter_name=NAME, save_embedding_layers=False)
    return {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def base_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frozen model's tensors under their own names, of a state dict with an adapter in it."""
    marks = (".lora_", ".trainable_tokens_")
    plain = {name: tensor for name, tensor in weights.items() if not any(mark in name for mark in marks)}
    return {name.replace(".token_adapter", "").replace(".base_layer", ""): one for name, one in plain.items()}


def write_adapter(folder: Path, model: "OFAModel", base: str, weights: Mapping[str, Tensor] | None = None) -> None:
    """peft's two files, into a folder that exists; `base` is the model that the adapter belongs to."""
    save_file(adapter_tensors(model, weights), folder / ADAPTER_FILE, metadata={"format": "pt"})
    config: Any = model.peft_config[NAME]
    dataclasses.replace(config, base_model_name_or_path=base, inference_mode=True).save_pretrained(str(folder))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's `adapter_config.json`. ValueError, naming it, where it is broken or not LoRA's."""
    path = folder / ADAPTER_CONFIG
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; copy it again") from error
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise ValueError(f"{path} describes no LoRA adapter: name a folder that train.lora wrote")
    return content


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter belongs to. ValueError, with the remedy, where it is not there."""
    named = read_adapter_config(folder).get("base_model_name_or_path") or ""
    for place in (folder / named, Path(named)):
        if named and place.is_dir():
            return place
    raise ValueError(
        f"{folder} is an adapter of the model {named!r}, which is no folder here: put it there, or correct "
        f"base_model_name_or_path in {ADAPTER_CONFIG}"
    )


def rename_base(folder: Path, base: str) -> None:
    """Say in a folder's `adapter_config.json` that its adapter is of the model `base`."""
    write_json(folder / ADAPTER_CONFIG, read_adapter_config(folder) | {"base_model_name_or_path": base})


def attach(model: "OFAModel", folder: Path, *, name: str = NAME, trained: bool = False, rows: bool = True) -> None:
    """Put the adapter of a folder into the model that it belongs to, in place.

    `trained`: it is to be trained further. `rows`: with its rows of the embedding. ValueError where it does not fit.
    """
    peft = peft_library()
    known = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    content = {key: value for key, value in read_adapter_config(folder).items() if key in known}
    content["inference_mode"] = not trained
    if not rows:
        content["trainable_token_indices"] = None
    tensors = read_adapter(folder, rows=rows)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what is wanted
            peft.inject_adapter_in_model(peft.LoraConfig(**content), model, name)
        wanted = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        wrong = sorted(wanted.keys() ^ tensors.keys())
        if wrong:
            raise ValueError(f"{wrong[0]} is on one side only")
        peft.set_peft_model_state_dict(model, tensors, adapter_name=name)
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: the adapter does not fit the model ({reason}): name the one it is of") from error


def read_adapter(folder: Path, *, rows: bool = True) -> dict[str, Tensor]:
    """The tensors of an adapter, without peft's prefix; without `rows`, those of LoRA alone."""
    path = folder / ADAPTER_FILE
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors has an exception class of its own
        raise ValueError(f"{path} is damaged or truncated ({error}); copy it again") from error
    found = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    return found if rows else {name: tensor for name, tensor in found.items() if "lora_" in name}


def read_rows(folder: Path) -> tuple[list[int], Tensor | None]:
    """Ids of the embedding's rows that an adapter has, and the rows [E, D]."""
    ids = read_adapter_config(folder).get("trainable_token_indices") or []
    return list(ids), next((one for name, one in read_adapter(folder).items() if "tokens_delta" in name), None)


def merge(model: "OFAModel") -> "OFAModel":
    """The same model with its adapter added to its weights, in place; no layer of peft is left in it."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            _replace(model, path, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            tied = module.token_adapter.tied_adapter is not None
            plain = module.unload_and_optionally_merge_module(merge=not tied, safe_merge=False, adapter_names=None)
            _replace(model, path, plain)
    model.tie_weights()
    del model.peft_config
    return model


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
