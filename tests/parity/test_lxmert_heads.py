"""LXMERT's and CATT's answers and pairs against the original programs, from sentences to losses."""

import re

import pytest
import torch
from torch import Tensor

from models.lxmert import LxmertForAnswers, LxmertForPairs
from models.lxmert.naming import original_names
from models.wordpiece import load_wordpiece
from tests.parity.conftest import Golden
from tests.parity.lxmert_cases import assert_close, boxes_for, feats_for, filled, shapes_of, sized_by, tensors
from trainers.answer_losses import best_answer_cross_entropy, binary_cross_entropy, class_cross_entropy

heads = pytest.mark.goldens("*heads*", system="lxmert", when=lambda content: "vqa_keys" in content)


def sentences_of(golden: Golden, sentences: list[str]) -> dict[str, Tensor]:
    encoded = load_wordpiece(golden.json["vocab"])(
        sentences,
        max_length=golden.json["max_seq_length"],
        truncation=True,
        padding="max_length",
        return_tensors="pt",
    )
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def answers_case(golden: Golden) -> tuple[LxmertForAnswers, Tensor, Tensor]:
    """The model with its logits and the target."""
    data = tensors(golden)
    model = filled(LxmertForAnswers(sized_by(golden, golden.json["vqa_keys"])))
    text = sentences_of(golden, golden.json["sentences"])
    return model, model(**text, visual_feats=data["feats"], visual_pos=data["boxes"]), data["target"]


@heads
def test_ids_of_the_sentences(golden: Golden) -> None:
    text = sentences_of(golden, golden.json["sentences"])
    assert text["input_ids"].tolist() == golden.arrays["input_ids"].tolist()
    assert text["attention_mask"].tolist() == golden.arrays["input_mask"].tolist()


@heads
def test_answers_of_vqa_and_gqa(golden: Golden) -> None:
    model, logits, target = answers_case(golden)
    assert shapes_of(model) == golden.json["vqa_keys"]
    assert_close(logits, golden.arrays["vqa_logits"])
    assert_close(logits, golden.arrays["gqa_logits"])
    assert_close(binary_cross_entropy(logits, target).item(), golden.json["vqa_bce_loss_times_answers"])
    assert_close(binary_cross_entropy(logits, target).item(), golden.json["gqa_bce_loss_times_answers"])
    assert_close(best_answer_cross_entropy(logits, target).item(), golden.json["gqa_mce_loss_times_answers"], 2e-5)


@heads
def test_what_an_answer_gives_no_gradient(golden: Golden) -> None:
    model, logits, target = answers_case(golden)
    binary_cross_entropy(logits, target).backward()
    names = original_names(model)
    # token types are all 0, the padding type, whose gradient is 0
    without = {names[name] for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set(golden.json["vqa_without_gradient"]) == set(golden.json["gqa_without_gradient"])


@heads
def test_pairs_of_images(golden: Golden) -> None:
    how = re.search(r"feats_for\(seed\+(\d+), \(([\d, ]+)\)\)", golden.json["nlvr2_inputs"])
    assert how
    seed = golden.json["config"]["seed"] + int(how[1])
    shape = tuple(map(int, how[2].split(",")))
    feats, boxes = feats_for(seed, shape), boxes_for(seed, shape[:-1])
    model = filled(LxmertForPairs(sized_by(golden, golden.json["nlvr2_keys"], visual_feat_dim=shape[-1])))
    assert shapes_of(model) == golden.json["nlvr2_keys"]
    text = sentences_of(golden, golden.json["nlvr2_sentences"])
    with torch.no_grad():
        logits = model(**text, visual_feats=feats, visual_pos=boxes)
        swapped = model(**text, visual_feats=feats.flip(1), visual_pos=boxes.flip(1))
    assert_close(logits, golden.arrays["nlvr2_logits"])
    assert_close(swapped, golden.arrays["nlvr2_swapped_logits"])
    labels = torch.tensor(golden.json["nlvr2_labels"])
    assert_close(class_cross_entropy(logits, labels).item(), golden.json["nlvr2_loss"])
