"""VisualBERT's network against outputs of the original: states, logits, losses, training steps, names, conversions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.conversion import to_transformers
from tests.parity.conftest import Golden, parity_weights

STATES, LOSS = 1e-5, 1e-5
CASES = ("vqa_ft*", "vqa_pre*", "nlvr2_ft*", "nlvr2_pre*", "vcr_ft*", "vcr_pre*", "bypass*")
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


@pytest.mark.goldens(*CASES, system="visualbert", when=is_case)
def test_states_and_logits_at_every_position(golden: Golden) -> None:
    content, arrays = golden.json, golden.arrays

    outputs = model_of(content).everything(**inputs_of(arrays))

    assert_close(outputs["sequence"], arrays["sequence_output"], STATES)
    assert_close(outputs["pooled"], arrays["pooled_output"], STATES)
    stride = content.get("logits_stride", 1)
    if "mlm_logits" in arrays:
        assert_close(outputs["word_logits"][..., ::stride], arrays["mlm_logits"], STATES)
        assert_close(outputs["logits"], arrays["seq_relationship_logits"], STATES)
    else:
        assert_close(outputs["logits"][..., ::stride], arrays["logits"], STATES)


@pytest.mark.goldens(*CASES, system="visualbert", when=is_case)
def test_losses_and_logits_where_they_are_read(golden: Golden) -> None:
    content, arrays = golden.json, golden.arrays
    model, inputs, targets = model_of(content), inputs_of(arrays), targets_of(arrays)

    output = model(**inputs, **targets)

    expected = {"masked_lm_loss": "masked_words", "next_sentence_loss": "matches"}
    for theirs, ours in expected.items():
        if theirs in content:
            assert output.losses[ours].item() == pytest.approx(content[theirs], abs=LOSS)
    if "loss" in content:
        assert output.loss.item() == pytest.approx(content["loss"], abs=LOSS)
    if "loss_without_next_sentence" in content:
        words_only = model(**inputs, word_labels=targets["word_labels"])
        assert words_only.loss.item() == pytest.approx(content["loss_without_next_sentence"], abs=LOSS)
    if "masked_positions" in content:
        assert len(output.word_logits) == content["masked_positions"]
    stride = content.get("logits_stride", 1)
    if "mlm_logits" in arrays:
        assert_close(output.logits, arrays["seq_relationship_logits"], STATES)
    else:
        assert_close(output.logits[..., ::stride], arrays["logits"], STATES)
    if "word_labels" in targets:
        labels = arrays["masked_lm_labels"]
        golden_rows = arrays["mlm_logits"][:, : labels.shape[1]][labels >= 0]
        assert_close(output.word_logits[:, ::stride], golden_rows, STATES)
