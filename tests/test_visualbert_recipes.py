"""VisualBERT's recipes against the values of the original's configurations and of the reproduction's notes."""

import json
import re
from typing import Any

import pytest

from config import load_config
from tests.conftest import ROOT, SHARED, needs_shared

ORIGINAL = {
    "visualbert_vqa": "vqa/fine-tune",
    "visualbert_nlvr2": "nlvr2/fine-tune",
    "visualbert_vcr": "vcr/fine-tune-qa",
    "visualbert_vcr_rationale": "vcr/fine-tune-qar",
}
PRETRAINING = {
    "visualbert_coco_pretrain": "vqa/coco-pre-train",
    "visualbert_coco_pretrain_nlvr2": "nlvr2/coco-pre-train",
    "visualbert_coco_pretrain_vcr": "vcr/coco-pre-train",
    "visualbert_vqa_pretrain": "vqa/pre-train",
    "visualbert_nlvr2_pretrain": "nlvr2/pre-train",
    "visualbert_vcr_pretrain": "vcr/pre-train",
}
OBJECTIVES = {
    "masked words only": "words",
    "masked words + caption pair matches": "words,matched",
    "masked words + the True/False label through the sentence-image head": "words,matched",
    "masked words + choice is correct": "words,matched",
}
FORMATS = {"coco": "coco-captions", "vqa": "imdb", "nlvr": "nlvr2", "vcr": "vcr"}
REPRODUCTION = {
    "visualbert_vqa_reproduction": "vqa2 fine-tune",
    "visualbert_nlvr2_reproduction": "nlvr2 fine-tune (the run of the result)",
}
REPRODUCED_PRETRAINING = {
    "visualbert_coco_pretrain_reproduction": "coco_captions (vqa-coco-pre)",
    "visualbert_coco_pretrain_nlvr2_reproduction": "coco_captions (nlvr2-coco-pre)",
    "visualbert_vqa_pretrain_reproduction": "vqa2 (vqa-pre)",
    "visualbert_nlvr2_pretrain_reproduction": "nlvr2 (nlvr2-pre)",
}


def recipes() -> dict[str, Any]:
    return json.loads((SHARED / "parity" / "visualbert" / "recipes.json").read_text(encoding="utf-8"))


@needs_shared
@pytest.mark.parametrize("name", ORIGINAL | PRETRAINING)
def test_the_original_s_values(name: str) -> None:
    source = (ORIGINAL | PRETRAINING)[name]
    config, published = load_config(ROOT / "conf" / f"{name}.json"), recipes()["original_configs"][source]
    train = config.train
    assert train.batch_size == published["train_batch_size"]
    assert train.gradient_accumulation == published["gradient_accumulation_steps"]
    assert (train.lr, train.max_epochs) == (published["learning_rate"], published["num_train_epochs"])
    assert train.warmup_proportion == published["warmup_proportion"]
    assert config.model.max_words == published["max_seq_length"]
    assert train.early_stop_patience == published["patience"] + 1  # the best may be so many epochs old
    boxes = (published.get("image_screening_parameters") or {}).get("image_feature_cap")
    assert config.model.config.get("max_regions") == boxes
    # "original_optimizer" in words: each tensor clipped on its own, the pooler not trained, the grad_norm never read
    assert (train.optimizer, train.train_pooler, train.clip_norm) == ("bertadam-each", False, 0.0)
    assert (train.adam_eps, train.weight_decay, train.schedule) == (1e-6, 0.01, "warmup_linear")


@needs_shared
@pytest.mark.parametrize("name", ORIGINAL | PRETRAINING)
def test_the_original_s_data(name: str) -> None:
    config = load_config(ROOT / "conf" / f"{name}.json")
    published = recipes()["original_configs"][(ORIGINAL | PRETRAINING)[name]]
    form = FORMATS[published["dataset"]]
    if form == "vcr":
        form += "-pairs" if published["pretraining"] else "-rationale" if published["rationale"] else ""
        # all eight pairs of a question, each a row of its own
        assert published["complete_shuffle"] == published["pretraining_include_qa_and_qar"] == published["pretraining"]
    assert config.data.format == form


@needs_shared
@pytest.mark.parametrize("name", PRETRAINING)
def test_the_original_s_objectives(name: str) -> None:
    published = recipes()["original_configs"][PRETRAINING[name]]["objective"]
    assert load_config(ROOT / "conf" / f"{name}.json").train.losses == OBJECTIVES[published]


@needs_shared
@pytest.mark.parametrize("name", REPRODUCTION)
def test_the_reproduction_s_values(name: str) -> None:
    config, notes = load_config(ROOT / "conf" / f"{name}.json"), recipes()["paddle_reproduction"][REPRODUCTION[name]]
    train = config.train
    size, _, gpus = str(notes["batch_size"]).removesuffix(" GPUs").partition(" x ")
    assert (train.batch_size, train.gradient_accumulation) == (int(size), int(gpus or 1))
    assert (train.lr, train.max_epochs) == (notes["learning_rate"], notes["epochs"])
    assert (train.warmup_proportion, train.weight_decay) == (notes["warmup_proportion"], notes["weight_decay"])
    assert notes["clip"] == "none"
    assert (train.clip_norm, train.optimizer, train.train_pooler) == (0.0, "adamw", True)
    assert (train.adam_betas, train.adam_eps) == ((0.9, 0.999), 1e-6)


@needs_shared
@pytest.mark.parametrize("name", REPRODUCED_PRETRAINING)
def test_the_reproduction_s_pretraining(name: str) -> None:
    config = load_config(ROOT / "conf" / f"{name}.json")
    every = recipes()["paddle_reproduction"]
    notes, train = every[REPRODUCED_PRETRAINING[name]], config.train
    size = notes.get("train_batch_size_script_and_log", notes.get("train_batch_size"))
    assert (train.batch_size, train.gradient_accumulation, train.lr) == (size, 1, notes["learning_rate"])
    assert train.max_epochs == notes["epochs_script_and_log"]
    assert (train.warmup_steps, train.weight_decay) == (notes["warmup_steps"], notes["weight_decay"])
    assert notes["clip"] == f"global norm {train.clip_norm}"
    assert (train.optimizer, train.train_pooler, train.schedule) == ("adamw", True, "warmup_linear")
    assert (train.adam_betas, train.adam_eps) == ((0.9, 0.999), 1e-6)
    boxes, width = re.findall(r"\d+", notes["features"].replace("nlvr2 2 x", ""))
    assert config.model.config.get("max_regions", 100) == int(boxes)
    assert width == ("2048" if "fc6" in config.data.features else "1024")

    objective = notes["objective"]
    if objective == "as above":
        objective = every["coco_captions (vqa-coco-pre)"]["objective"]
    assert train.losses == ("words,matched" if "caption pair matches" in objective else "words")
    assert (train.caption_pairs == "once") == ("pair drawn once" in objective)
    if "train2014 only" in objective:
        assert config.data.train.count("train2014") == 1
        assert "," not in config.data.train


@needs_shared
def test_expected_scores_are_the_published_ones() -> None:
    notes = recipes()["paddle_reproduction"]["vqa2 fine-tune"]
    about = {name: json.loads((ROOT / "conf" / f"{name}.json").read_text())["_about"] for name in ORIGINAL}
    again = json.loads((ROOT / "conf" / "visualbert_vqa_reproduction.json").read_text())["_about"]
    assert f"{notes['original_test_dev']} on test-dev, {notes['original_test_std']}" in about["visualbert_vqa"]
    assert f"{notes['test_dev']} on test-dev, {notes['test_std']}" in again
    best = recipes()["paddle_reproduction"]["nlvr2 fine-tune (the run of the result)"]
    assert f"{best['original_dev']} on dev" in about["visualbert_nlvr2"]
    assert "part of the training questions" in about["visualbert_vqa"]
    assert "part of the training questions" in again


def test_the_radiology_recipe_has_the_folds_of_lxmert_s() -> None:
    ours, theirs = (load_config(ROOT / "conf" / f"{name}_vqa_rad.json") for name in ("visualbert", "lxmert"))
    assert ours.data == theirs.data
    assert ours.train == theirs.train
    assert (ours.model.start, ours.model.max_words) == (theirs.model.start, theirs.model.max_words)
