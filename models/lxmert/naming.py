"""Names of weights: the original's (airsplay/lxmert, yangxuntu/lxmertcatt), and transformers', which are ours.

    original, pre-training    bert.*, cls.*, obj_predict_head.*, answer_head.*
    original, a task          lxrt_encoder.model.bert.*, logit_fc.*
    original, encoder alone   embeddings.*, encoder.*, pooler.*
    ours                      lxmert.*, cls.*, obj_predict_head.*, answer_head.*, pair_head.*

Training on several GPUs put `module.` before or into names. CATT's "ft_same" calls the attention of language and visual
layers `att`, where all others call it `self`.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.lxmert.modeling import (
    LxmertBase,
    LxmertForAnswers,
    LxmertForPairs,
    LxmertModel,
)

_TASK = "lxrt_encoder.model.bert."
_WRAPPERS = (re.compile(r"^module\."), re.compile(r"(?<=lxrt_encoder\.model\.)module\."))
_BACKBONE = re.compile(r"^(?:lxrt_encoder\.model\.bert\.|bert\.|lxmert\.|(?=(?:embeddings|encoder|pooler)\.))")
_SHARED_ATTENTION = re.compile(r"(encoder\.(?:layer|r_layers)\.\d+\.attention)\.att\.")
_OWN_ATTENTION = re.compile(r"(encoder\.(?:layer|r_layers)\.\d+\.attention)\.self\.")
_DECODER, _WORDS = "cls.predictions.decoder.weight", "lxmert.embeddings.word_embeddings.weight"


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names, whichever known program wrote them; other names stay as they are."""
    renamed = {}
    is_pair = _is_pair_head(state)
    for name, tensor in state.items():
        for wrapper in _WRAPPERS:
            name = wrapper.sub("", name)
        name = _BACKBONE.sub("lxmert.", name)
        name = _SHARED_ATTENTION.sub(r"\1.self.", name)
        if name.startswith("logit_fc."):
            name = ("pair_head." if is_pair else "answer_head.") + name
        renamed[name] = tensor
    if _WORDS in renamed and any(name.startswith("cls.predictions.") for name in renamed):
        renamed.setdefault(_DECODER, renamed[_WORDS])
    return renamed


def original_names(model: LxmertBase) -> dict[str, str]:
    """Our name of each tensor of `model` -> the original's."""
    names = {}
    for name in model.state_dict():
        if isinstance(model, LxmertModel):
            other = name
        elif isinstance(model, LxmertForAnswers | LxmertForPairs):
            other = re.sub(r"^(?:answer|pair)_head\.", "", re.sub(r"^lxmert\.", _TASK, name))
        else:
            other = re.sub(r"^lxmert\.", "bert.", name)
        if model.config.causal_attention == "ft_same":
            other = _OWN_ATTENTION.sub(r"\1.att.", other)
        names[name] = other
    return names


def original_state(model: LxmertBase) -> dict[str, Tensor]:
    """The weights of `model` under the original's names: `torch.save` them for the original program."""
    names = original_names(model)
    return {names[name]: tensor.detach() for name, tensor in model.state_dict().items()}


def inferred_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `LxmertConfig` that the shapes in `state` (our names) tell.

    Heads leave no trace: the published 64 numbers a head are supposed. Nor do `cross_type` and what tells "ft_fixed"
    from "ft".
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    encoder = "lxmert.encoder."
    places: dict[str, tuple[str, int]] = {
        "vocab_size": (_WORDS, 0),
        "hidden_size": (_WORDS, 1),
        "max_position_embeddings": ("lxmert.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("lxmert.embeddings.token_type_embeddings.weight", 0),
        "intermediate_size": (f"{encoder}layer.0.intermediate.dense.weight", 0),
        "visual_feat_dim": (f"{encoder}visn_fc.visn_fc.weight", 1),
        "visual_pos_dim": (f"{encoder}visn_fc.box_fc.weight", 1),
        "num_qa_labels": ("answer_head.logit_fc.3.weight", 0),
        "num_object_labels": ("obj_predict_head.decoder_dict.obj.weight", 0),
        "num_attr_labels": ("obj_predict_head.decoder_dict.attr.weight", 0),
        "dictionary_words": (f"{encoder}ML", 1),
        "dictionary_boxes": (f"{encoder}MV", 1),
    }
    fields: dict[str, Any] = {
        field: shapes[name][axis] for field, (name, axis) in places.items() if len(shapes.get(name, ())) > axis
    }
    for field, layers in {"l_layers": "layer", "x_layers": "x_layers", "r_layers": "r_layers"}.items():
        pattern = re.compile(rf"{re.escape(encoder + layers)}\.(\d+)\.")
        fields[field] = len({found[1] for found in map(pattern.match, state) if found})
    if fields.get("hidden_size", 0) % 64 == 0 and fields.get("hidden_size"):
        fields["num_attention_heads"] = fields["hidden_size"] // 64
    return fields | _causal_fields(state, fields["l_layers"])


def _causal_fields(state: Mapping[str, Tensor], l_layers: int) -> dict[str, Any]:
    if "lxmert.encoder.ML" not in state:
        return {"causal_attention": "none"}
    own = {found[1] for found in map(re.compile(r"lxmert\.encoder\.layer\.(\d+)\.FTattention\.").match, state) if found}
    if not own:
        return {"causal_attention": "ft_same"}
    return {"causal_attention": "ft", "ft_large": l_layers > 1 and len(own) == l_layers}


def model_kind(state: Mapping[str, Tensor]) -> str | None:
    """Which of our models the weights (our names) are of: "pretraining", "answers", "pairs" or "encoder", if any."""
    if "lxmert.encoder.visn_fc.visn_fc.weight" not in state:
        return None
    for head, kind in {"cls.": "pretraining", "pair_head.": "pairs", "answer_head.": "answers"}.items():
        if any(name.startswith(head) for name in state):
            return kind
    return "encoder"


def _is_pair_head(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are of NLVR2's head, which reads the states of two images."""
    first = state.get("logit_fc.0.weight", state.get("module.logit_fc.0.weight"))
    return first is not None and first.ndim == 2 and first.shape[0] == first.shape[1]
