"""VisualBERT's network against outputs of the original: states, logits, losses, training steps, names, conversions."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from models.comparison import agree
from models.visualbert import HEADS as HEADS_OF_TRANSFORMERS
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.configuration import inferred_config
from models.visualbert.naming import TIED, original_name, to_original, to_transformers, transformers_name
from models.visualbert.published import compare_published
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.pieces import WordPieces
from tests.conftest import SHARED
from tests.parity.conftest import Golden, parity_weights
from trainers.bertadam import BertAdam
from trainers.schedules import make_schedule
from trainers.visualbert import PUBLISHED_LEFT_OUT, clip_each, parameter_groups, published_updates

STATES, LOSS, TRAINING = 1e-5, 1e-5, 1e-4
FIRST_QUERY = "bert.bert.encoder.layer.0.attention.self.query.weight"
TRAININGS = ("train_vqa*", "train_nlvr2*", "train_vcr*", "train_pre*", "train_bypass*")
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


@pytest.mark.goldens(*TRAININGS, system="visualbert", when=lambda content: is_model(content) and "optimizer" in content)
def test_steps_of_training(golden: Golden) -> None:
    content, arrays, rule = golden.json, golden.arrays, golden.json["optimizer"]
    model = model_of(content).train()
    inputs, targets = inputs_of(arrays), targets_of(arrays)
    groups = parameter_groups(model, weight_decay=rule["weight_decay"], left_out=PUBLISHED_LEFT_OUT)
    schedule = make_schedule("warmup_linear", warmup=rule["warmup"])
    optimizer = BertAdam(
        groups,
        rule["lr"],
        schedule=schedule,
        total_steps=rule["t_total"],
        betas=tuple(rule["betas"]),
        eps=rule["eps"],
    )
    trained = [parameter for group in groups for parameter in group["params"]]

    for step, (expected, factor) in enumerate(zip(content["losses"], content["lr_multipliers"], strict=True)):
        optimizer.zero_grad()
        loss = model(**inputs, **targets).loss
        assert loss.item() == pytest.approx(expected, abs=TRAINING)
        assert schedule(step / rule["t_total"]) == pytest.approx(factor)
        loss.backward()
        clip_each(trained, 1.0)
        optimizer.step()

    state = to_original(model.state_dict())
    start = made_state(content)
    for name, (total, absolute) in content["sum_and_abs_sum_after"].items():
        # sums over thousands of numbers, of which each may be off by rounding
        tolerance = TRAINING * max(1, 0.1 * absolute)
        assert state[name].double().sum().item() == pytest.approx(total, abs=tolerance)
        assert state[name].double().abs().sum().item() == pytest.approx(absolute, abs=tolerance)
    assert all(torch.equal(state[name], start[name]) for name in content["unchanged_after"])
    whole = {"classifier_weight_after": "bert.classifier.weight", "query_weight_after": FIRST_QUERY}
    for array, name in whole.items():
        if array in arrays:
            assert_close(state[name], arrays[array], TRAINING)


@pytest.mark.goldens("schedule*", system="visualbert", when=lambda content: "multiplier" in content)
def test_the_learning_rates_schedule(golden: Golden) -> None:
    content = golden.json
    schedule = make_schedule("warmup_linear", warmup=content["warmup"])
    for step, factor in content["multiplier"].items():
        assert schedule(int(step) / content["t_total"]) == pytest.approx(factor)
    for row in content["examples"]:
        planned = published_updates(row["len_train"], row["batch"], row["epochs"], accumulation=row["accumulation"])
        assert planned == row["t_total"]


@pytest.mark.goldens("published_numbers*", system="visualbert", when=lambda content: "models" in content)
def test_published_numbers_are_computed_by_their_recipe(golden: Golden) -> None:
    pieces = WordPieces.of(load_wordpiece(SHARED / "bert_vocab"))
    for entry in golden.json["models"]:
        model = small_release(entry)
        made = printed_by_transformers(model, entry, pieces)

        assert agree(compare_published(model, made, pieces.split), 1e-4)
        rows = compare_published(model, entry, pieces.split)
        assert not agree(rows, 1e-4)
        assert len(rows) == (len(entry["rows"]) + 2 if entry["kind"] == "pre" else 2)


def small_release(entry: dict[str, Any]) -> VisualBERTModel:
    """A model with a release's head, vocabulary and features, small and without its weights."""
    widths = {"vqa": 2048, "nlvr2": 1024, "vcr": 512}
    pretraining = entry["kind"] == "pre"
    head, width = ("pretraining", entry["visual_dim"]) if pretraining else (entry["kind"], widths[entry["kind"]])
    torch.manual_seed(3)
    labels: dict[str, Any] = {"num_labels": entry["logits"]["shape"][-1]} if head == "vqa" else {}
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    config = VisualBERTConfig(head=head, visual_embedding_dim=width, initializer_range=0.3, **sizes, **labels)
    return VisualBERTModel(config).eval()


@torch.no_grad()
def printed_by_transformers(model: VisualBERTModel, entry: dict[str, Any], pieces: WordPieces) -> dict[str, Any]:
    """The numbers of an entry, from transformers' own class and the recipe as it is written."""
    theirs = getattr(transformers, HEADS_OF_TRANSFORMERS[model.config.head])(transformers_config(model.config))
    theirs.load_state_dict(model.state_dict())
    welcome = "Welcome to use paddle paddle and paddlenlp!"
    texts: Any = {"pre": "The capital of France is {mask}.", "vcr": [[welcome, welcome], ["Use it.", "Like it."]]}
    padded = {"padding": "max_length", "max_length": 128, "return_tensors": "pt"}
    batch = dict(pieces.tokenizer(texts.get(entry["kind"], welcome), **padded))
    ones = torch.ones(1, 100, model.config.visual_embedding_dim)
    if entry["kind"] == "vcr":
        batch = {name: tensor[None] for name, tensor in batch.items()}
        ones = ones[None].expand(1, 2, -1, -1).contiguous()
    mask = torch.ones(ones.shape[:-1], dtype=torch.long)
    batch |= {"visual_embeds": ones, "visual_token_type_ids": mask, "visual_attention_mask": mask}
    if entry["kind"] == "pre":
        longer = {**padded, "max_length": 228}
        batch["labels"] = pieces.tokenizer("The capital of France is Paris.", **longer)["input_ids"]
        batch["sentence_image_labels"] = torch.tensor([1])
    elif entry["kind"] == "vqa":
        batch["labels"] = F.one_hot(torch.tensor([50]), entry["logits"]["shape"][-1]).float()
    else:
        batch["labels"] = torch.tensor([1 if entry["kind"] == "nlvr2" else 0])
    output = theirs.eval()(**batch)
    made = {"kind": entry["kind"], "loss": output.loss.item()}
    if entry["kind"] == "pre":
        words = output.prediction_logits[0]
        rows = {row: [words[int(row)][:3].tolist(), words[int(row)][-3:].tolist()] for row in entry["rows"]}
        return made | {"rows": rows, "seq_relationship": output.seq_relationship_logits[0].tolist()}
    logits = output.logits[0].tolist()
    return made | {
        "logits": {"first3": logits[:3], "last3": logits[-3:]} if entry["kind"] == "vqa" else {"values": logits}
    }
