"""VisualBERT's network against outputs of the original: states, logits, losses, training steps."""

import pytest
import torch

from models.visualbert.naming import to_original
from tests.parity.conftest import Golden
from tests.parity.visualbert_cases import assert_close, inputs_of, is_case, is_model, made_state, model_of, targets_of
from trainers.bertadam import BertAdam
from trainers.schedules import make_schedule
from trainers.visualbert import PUBLISHED_LEFT_OUT, clip_each, parameter_groups, published_updates

STATES, LOSS, TRAINING = 1e-5, 1e-5, 1e-4
FIRST_QUERY = "bert.bert.encoder.layer.0.attention.self.query.weight"
TRAININGS = ("train_vqa*", "train_nlvr2*", "train_vcr*", "train_pre*", "train_bypass*")
CASES = ("vqa_ft*", "vqa_pre*", "nlvr2_ft*", "nlvr2_pre*", "vcr_ft*", "vcr_pre*", "bypass*")


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
