"""VisualBERT's hyper-parameters, and what a checkpoint's tensors tell of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import VisualBertConfig

#: The head's name here -> transformers' class with the same tensors.
HEADS = {
    "pretraining": "VisualBertForPreTraining",
    "vqa": "VisualBertForQuestionAnswering",
    "nlvr2": "VisualBertForVisualReasoning",
    "vcr": "VisualBertForMultipleChoice",
}
#: Fields that transformers does not know.
OWN_FIELDS = ("head", "max_regions", "with_boxes")
#: Width of an attention head in every BERT: the number of heads leaves no trace in the weights.
_HEAD_WIDTH = 64


@strict
class VisualBERTConfig(VisualBertConfig):
    """transformers' fields, and `head`; a `config.json` written by this class is read by transformers as its own.

    `num_labels` is the number of answers with head "vqa", 2 with "nlvr2"; the other heads do not read it. Token 0 pads,
    as in every BERT vocabulary; transformers' default is 1. `bypass_transformer` sends the words alone through the
    layers, then words and regions together through one more layer.

    What a region is made of is for those who make inputs: `max_regions`, the first so many of each picture (None: all),
    and `with_boxes`, six numbers of its box at the end of `visual_embedding_dim`.
    """

    head: str = "pretraining"
    max_regions: int | None = None
    with_boxes: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.head not in HEADS:
            raise ValueError(f"VisualBERT: head {self.head!r} is unknown; choose one of {', '.join(HEADS)}")
        if self.max_regions is not None and self.max_regions < 1:
            raise ValueError(f"VisualBERT: max_regions {self.max_regions} must be 1 or more, or null for all")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"VisualBERT: hidden_size {self.hidden_size} is not divisible by num_attention_heads "
                f"{self.num_attention_heads}"
            )

    @property
    def answers(self) -> list[str] | None:
        """The answer of each output, where the checkpoint carries them."""
        names = [str(name) for _, name in sorted((self.id2label or {}).items())]
        return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def with_answers(config: VisualBERTConfig, answers: Sequence[str]) -> VisualBERTConfig:
    """The same configuration with the answers' names in it.

    Raises:
        ValueError: the list is not as long as the head has outputs.
    """
    if config.head != "vqa" or len(answers) != config.num_labels:
        outputs = f"{config.num_labels} answers" if config.head == "vqa" else f"no answers (it is for {config.head})"
        raise ValueError(
            f"the answer list has {len(answers)} entries, but the model's head has {outputs}: give the list that the "
            "head was trained with"
        )
    names = dict(enumerate(answers))
    return VisualBERTConfig.from_dict(config.to_dict() | {"id2label": names, "label2id": {}})


def inferred_config(state: Mapping[str, Tensor], **overrides: Any) -> VisualBERTConfig:
    """The configuration that tensors under transformers' names belong to; `overrides` win.

    The number of attention heads is the width over 64, as in every BERT, unless it is among the overrides.

    Raises:
        ValueError: the tensors are not those of a VisualBERT, or an override is not possible.
    """
    try:
        fields = _fields(state)
    except KeyError as error:
        shown = ", ".join(list(state)[:5])
        raise ValueError(
            f"these are not the weights of a VisualBERT: there is no {error.args[0]}; the tensors are {shown}, …"
        ) from error
    return VisualBERTConfig(**(fields | overrides))


def _fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    words = state["visual_bert.embeddings.word_embeddings.weight"]
    width = words.shape[1]
    layers = {found[1] for name in state if (found := re.match(r"visual_bert\.encoder\.layer\.(\d+)\.", name))}
    return {
        "vocab_size": words.shape[0],
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "intermediate_size": state["visual_bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state["visual_bert.embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state["visual_bert.embeddings.token_type_embeddings.weight"].shape[0],
        "visual_embedding_dim": state["visual_bert.embeddings.visual_projection.weight"].shape[1],
        "bypass_transformer": any(name.startswith("visual_bert.additional_layer.") for name in state),
        **_head(state),
    }


def _head(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Head and number of labels. Two outputs are NLVR2's, whose head differs from VQA's in what it reads alone."""
    if "cls.predictions.decoder.weight" in state:
        return {"head": "pretraining"}
    outputs = state["cls.weight"].shape[0]
    if outputs == 1:
        return {"head": "vcr"}
    return {"head": "nlvr2" if outputs == 2 else "vqa", "num_labels": outputs}
