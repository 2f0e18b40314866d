"""VisualBERT's network against outputs of the original: states, logits, losses, training steps, names, conversions."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from models.visualbert import HEADS as HEADS_OF_TRANSFORMERS
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.configuration import inferred_config
from models.visualbert.naming import TIED, original_name, to_original, to_transformers, transformers_name
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


@pytest.mark.goldens("keymap*", system="visualbert", when=lambda content: "hugging_face_2021" in content)
def test_names_of_one_layer(golden: Golden) -> None:
    for theirs, ours in golden.json["example_one_layer"].items():
        # the map writes down where the last of two names ends
        assert transformers_name(theirs) in (ours, "cls.predictions.bias")
        if ours not in TIED:
            assert original_name(ours) == theirs


@pytest.mark.goldens("keymap*", system="visualbert", when=lambda content: "hugging_face_2021" in content)
def test_names_follow_the_published_map(golden: Golden) -> None:
    content = golden.json
    names = list(content["example_one_layer"]) + ["bert.classifier.weight", "bert.classifier.bias", "detector.x.weight"]
    for name in (*names, *(f"module.{name}" for name in names)):
        state = to_transformers({name: torch.zeros(1)})
        dropped = any(re.search(pattern, name) for pattern in content["drop"])
        expected = replaced(name, content["replace"])
        assert (expected in state) != dropped
        if not dropped:
            assert original_name(expected) == replaced(expected, content["inverse"])
    for name in ("cls.predictions.decoder.bias", "visual_bert.embeddings.position_ids"):
        assert any(re.search(pattern, name) for pattern in content["inverse_drop"])
        assert not {original_name(name), name} & to_original({name: torch.zeros(1)}).keys()


def replaced(name: str, pairs: list[list[str]]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.goldens("checkpoints*", system="visualbert", when=lambda content: "checkpoints" in content)
def test_every_release_at_full_size(golden: Golden) -> None:
    content = golden.json
    for release in content["checkpoints"]:
        head = HEADS[release["training_head_type"]]
        labels = {"num_labels": release["num_labels"]} if release["num_labels"] else {}
        config = VisualBERTConfig(
            head=head, visual_embedding_dim=release["visual_embedding_dim"], **content["bert"], **labels
        )
        with torch.device("meta"):
            ours = VisualBERTModel(config)
            theirs = getattr(transformers, release["transformers_class"])(transformers_config(config))
        state = ours.state_dict()
        original = to_original(state)

        assert HEADS_OF_TRANSFORMERS[head] == release["transformers_class"]
        assert len(original) == release["original_tensors"]
        assert len(state) == release["transformers_tensors"]
        assert sum(parameter.numel() for parameter in ours.parameters()) == release["parameters"]
        assert shapes(state) == shapes(theirs.state_dict())
        detector = {"detector.backbone.conv1.weight": torch.empty(1, device="meta")}
        assert shapes(to_transformers(original | detector)) == shapes(state)
        found = inferred_config(to_transformers(original))
        assert {name: getattr(found, name) for name in content["bert"]} == content["bert"]
        assert (found.head, found.visual_embedding_dim) == (head, release["visual_embedding_dim"])


def transformers_config(config: VisualBERTConfig) -> transformers.VisualBertConfig:
    return transformers.VisualBertConfig.from_dict(
        {name: value for name, value in config.to_dict().items() if name != "head"}
    )


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
