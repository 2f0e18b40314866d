"""VisualBERT's cases: a model with a case's weights, its inputs and its targets."""

from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.naming import to_transformers
from tests.parity.conftest import parity_weights

#: Kinds of heads, the original's -> ours.
HEADS = {"pretraining": "pretraining", "vqa": "vqa", "nlvr": "nlvr2", "multichoice": "vcr"}
#: The original's names of inputs -> ours.
INPUTS = {
    "input_ids": "input_ids",
    "input_mask": "text_mask",
    "input_type_ids": "segment_ids",
    "image_mask": "box_mask",
    "visual_embeddings_type": "box_types",
    "image_text_alignment": "alignment",
}


def is_model(content: Any) -> bool:
    return isinstance(content, dict) and {"training_head_type", "keys", "shapes"} <= content.keys()


def is_case(content: Any) -> bool:
    return is_model(content) and "optimizer" not in content


def made_state(content: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a case, under the original's names."""
    make, tied = parity_weights().tensor_for, content["tied"]
    return {name: make(tied.get(name, name), tuple(shape)) for name, shape in content["keys"].items()}


def config_of(content: dict[str, Any]) -> VisualBERTConfig:
    fields = {name: value for name, value in content["config"].items() if name != "dropout"}
    if content.get("answers"):
        fields["num_labels"] = content["answers"]
    return VisualBERTConfig(
        head=HEADS[content["training_head_type"]],
        bypass_transformer=content.get("bypass_transformer", False),
        hidden_dropout_prob=content.get("dropout", 0.1),
        attention_probs_dropout_prob=content.get("dropout", 0.1),
        **fields,
    )


def model_of(content: dict[str, Any]) -> VisualBERTModel:
    model = VisualBERTModel(config_of(content))
    model.load_state_dict(to_transformers(made_state(content)))
    return model.eval()


def inputs_of(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    inputs = {ours: torch.from_numpy(arrays[name]) for name, ours in INPUTS.items() if name in arrays}
    return inputs | {"features": torch.from_numpy(arrays["visual_x64"]).float() / 64}


def targets_of(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Targets of a case; the value called is_random_next is 1 where the text matches."""
    names = {"masked_lm_labels": "word_labels", "is_random_next": "labels", "label": "labels"}
    return {ours: torch.from_numpy(arrays[name]) for name, ours in names.items() if name in arrays}


def assert_close(ours: Tensor, golden: np.ndarray, tolerance: float) -> None:
    assert ours.shape == golden.shape
    assert float((ours.detach() - torch.from_numpy(golden)).abs().max()) <= tolerance


def transformers_config(config: VisualBERTConfig) -> transformers.VisualBertConfig:
    return transformers.VisualBertConfig.from_dict(
        {name: value for name, value in config.to_dict().items() if name != "head"}
    )
