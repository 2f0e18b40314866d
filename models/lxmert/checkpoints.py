"""Models from files: the original's `.pth`, directories of transformers, and our own.

Nothing here runs code that a file brings along (`weights_only=True`). Every name that is missing, not used or of
another shape is told, as an error where the model would be without trained weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.initialization import no_init_weights

from data.reading import load_json
from models.lxmert.configuration import SIZES, LxmertConfig, numbers_of
from models.lxmert.modeling import (
    LxmertBase,
    LxmertForAnswers,
    LxmertForPairs,
    LxmertForPretraining,
    LxmertModel,
)
from models.lxmert.naming import inferred_fields, model_kind, our_names
from models.ofa.checkpoints import read_tensors
from models.ofa.conversion import first_names
from models.sizes import check_positive, check_size

CONFIG_FILE = "config.json"
MODELS: dict[str, type[LxmertBase]] = {
    "answers": LxmertForAnswers,
    "pairs": LxmertForPairs,
    "pretraining": LxmertForPretraining,
    "encoder": LxmertModel,
}
#: What names of heads begin with.
HEADS = ("cls.", "obj_predict_head.", "answer_head.", "pair_head.")
#: What the first names of other systems' weights begin with.
_OTHERS = {
    "OFA": ("encoder.embed_tokens", "encoder.embed_images", "decoder.embed_tokens"),
    "VisualBERT": ("visual_bert.", "bert.embeddings.visual", "embeddings.visual", "bert.bert.embeddings"),
    "TRAR": ("backbone.enc_list", "backbone.dec_list", "attflat_img", "lstm."),
    "BERT": ("bert.encoder.layer.", "encoder.layer.", "lxmert.encoder.layer."),
}
# Buffers that older transformers wrote beside the weights.
_NO_WEIGHTS = ("position_ids",)
_NOT_OF_MODEL = {"architectures", "torch_dtype", "dtype", "transformers_version", "model_type"}
# 1 / 0.15 as transformers rounds it.
_ROUNDED_NORMALIZER = 6.67


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """The tensors of a directory or a file under our names, whichever program of LXMERT or CATT wrote it.

    Raises:
        ValueError: the file is missing, damaged or holds code, or is of another system.
    """
    state = {name: tensor for name, tensor in read_tensors(source).items() if not name.endswith(_NO_WEIGHTS)}
    renamed = our_names(state)
    if model_kind(renamed) is None:
        raise ValueError(f"{source} is no checkpoint of LXMERT{_looks_like(state)}")
    return renamed


def config_for(
    source: str | Path, state: Mapping[str, Tensor] | None = None, overrides: Mapping[str, Any] | None = None
) -> LxmertConfig:
    """The configuration of weights: a directory's `config.json`, or else what shapes tell; `overrides` win.

    Args:
        state: of `read_weights(source)`, where it was read already.

    Raises:
        ValueError: as `read_weights`; or the file is of another system, or a value is not possible.
    """
    source = Path(source)
    file = source / CONFIG_FILE
    if file.is_file():
        fields = _read_config(file)
    else:
        fields = inferred_fields(read_weights(source) if state is None else state)
        if "num_attention_heads" not in fields and "num_attention_heads" not in (overrides or {}):
            raise ValueError(f"{source}: nothing tells the number of attention heads; set num_attention_heads")
    try:
        return LxmertConfig(**(fields | dict(overrides or {})))
    except Exception as error:  # the validators of huggingface_hub have exception classes of their own
        raise ValueError(f"{source}: {error}") from error


def load_model(
    source: str | Path, kind: str | None = None, *, overrides: Mapping[str, Any] | None = None
) -> LxmertBase:
    """A whole model in evaluation mode, float32, every weight of it from `source`.

    To start a model from weights of another kind, build it and see `starting`.

    Args:
        source: a directory of ours or of transformers, or a file of the original's weights, with `module.` or without.
        kind: "answers", "pairs", "pretraining" or "encoder"; None is what the weights are of. Heads that this kind does
            not have are not read.
        overrides: fields of `LxmertConfig` that win, such as `num_attention_heads`, of which no shape tells.

    Raises:
        ValueError: as `read_weights`; or names that are missing, unexpected or of another shape.
    """
    state = read_weights(source)
    kind = model_kind(state) if kind is None else kind
    if kind not in MODELS:
        raise ValueError(f"no model of kind {kind!r}: choose one of {', '.join(MODELS)}")
    config = config_for(source, state, overrides)
    try:
        check_positive(config, SIZES)
        check_size(numbers_of(config), state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with no_init_weights():
        model = MODELS[kind](config)
    model.tie_weights()
    try:
        fill(model, for_model(model, state))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return model.float().eval()


def for_model(model: LxmertBase, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of `state`, without the heads that `model` lacks; names are those of `model`."""
    own = tuple({name.partition(".")[0] + "." for name in model.state_dict()})
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(HEADS) or name.startswith(own)}
    if isinstance(model, LxmertModel):
        return {name.removeprefix("lxmert."): tensor for name, tensor in kept.items()}
    return kept


def fill(model: LxmertBase, state: Mapping[str, Tensor]) -> None:
    """Load every weight of `model`.

    Raises:
        ValueError: names that are missing, unexpected or of another shape.
    """
    check_fit(model, state)
    model.load_state_dict(state, strict=True)


def check_fit(model: LxmertBase, state: Mapping[str, Tensor], *, may_lack: tuple[str, ...] = ()) -> None:
    """See that `state` has every name of the model, no other, each of its shape.

    `may_lack`: what names begin with that `state` need not have.

    Raises:
        ValueError: with what the difference means, where that is known, and the first ten names of each kind.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    lists = {
        "missing": [name for name in own if name not in shapes and not name.startswith(may_lack)],
        "unexpected": [name for name in shapes if name not in own],
        "of another shape": [
            f"{name} {list(shapes[name])} instead of {list(shape)}"
            for name, shape in own.items()
            if shapes.get(name, shape) != shape
        ],
    }
    found = [f"{len(names)} {kind}: {first_names(names)}" for kind, names in lists.items() if names]
    if found:
        raise ValueError("; ".join(["the weights do not fit the model", *_meanings(model, state), *found]))


def _meanings(model: LxmertBase, state: Mapping[str, Tensor]) -> list[str]:
    """In which fields of the configuration the weights differ from the model."""
    prefix = "lxmert." if isinstance(model, LxmertModel) else ""
    told = inferred_fields({prefix + name: tensor for name, tensor in state.items()})
    told.pop("num_attention_heads", None)
    if model.config.has_own_branch and told.get("causal_attention") == "ft":
        told["causal_attention"] = model.config.causal_attention  # the names are the same
    differing = [
        f"{field} is {told[field]} in the weights and {getattr(model.config, field)} in the model"
        for field in told
        if getattr(model.config, field) != told[field]
    ]
    return [", ".join(differing) + ": set what belongs to the weights"] if differing else []


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); copy it again") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != LxmertConfig.model_type:
        raise ValueError(f'{path} describes {kind!r}, not a model of type "{LxmertConfig.model_type}"')
    if content.get("visual_loss_normalizer") == _ROUNDED_NORMALIZER:
        del content["visual_loss_normalizer"]
    return {name: value for name, value in content.items() if name not in _NOT_OF_MODEL}


def _looks_like(state: Mapping[str, Tensor]) -> str:
    for system, beginnings in _OTHERS.items():
        if any(name.removeprefix("module.").startswith(beginnings) for name in state):
            remedy = ": start the language layers from it instead" if system == "BERT" else ""
            return f", but looks like one of {system}{remedy}; its weights are {first_names(list(state))}"
    return f"; its weights are {first_names(list(state))}"
