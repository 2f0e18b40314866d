"""Every configuration that is shipped parses, and says what it is for."""

import json
import re
from pathlib import Path

import pytest

from config import load_config
from data.questions import read_questions
from tests.conftest import ROOT, needs_shared

FILES = [ROOT / "train_conf.json", *sorted((ROOT / "conf").glob("*.json"))]
OFA = [path for path in FILES if path.name.startswith("personality_captions_")]
PUBLISHED = [path for path in OFA if not path.name.endswith("_scst.json")]
STEP_2 = [path for path in FILES if path.name.endswith("_scst.json")]


def test_the_recipes_are_there() -> None:
    sizes = [f"personality_captions_{size}" for size in ("tiny", "base", "large")]
    both_steps = {f"{name}{step}.json" for name in [*sizes, "flickrstyle_small"] for step in ("", "_scst")}
    assert {path.name for path in FILES} >= {"train_conf.json", "demo_scst.json", *both_steps}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_configuration_parses_and_says_command_hours_and_score(path: Path) -> None:
    config = load_config(path)
    about = json.loads(path.read_text())["_about"]
    assert re.search(r"Command: python finetune\.py .*train", about)
    assert "Hours: " in about
    assert "Expected score: " in about
    if path.parent.name == "conf":
        assert f"--conf conf/{path.name} train" in about
    assert config.work_dir.startswith("work_dir/")


def test_no_two_recipes_share_a_folder() -> None:
    folders = [load_config(path).work_dir for path in FILES]
    assert len(set(folders)) == len(folders)


def test_the_embedded_default_downloads_and_reads_nothing() -> None:
    config = load_config(ROOT / "train_conf.json")
    assert config.data.format == "demo"
    assert config.model.checkpoint is None
    assert config.model.vocabulary == "train"


@pytest.mark.parametrize("path", STEP_2, ids=lambda path: path.name)
def test_step_2_goes_on_where_the_recipe_of_step_1_ends(path: Path) -> None:
    config = load_config(path)
    former = path.name.replace("_scst", "") if not path.name.startswith("demo") else "train_conf.json"
    step1 = next(load_config(file) for file in FILES if file.name == former)
    assert config.train.objective == "scst"
    assert config.model.checkpoint == f"{step1.work_dir}/checkpoints/best"
    if step1.data.format != "demo":
        assert config.data == step1.data
    assert config.style == step1.style


@pytest.mark.parametrize("path", [path for path in STEP_2 if path in OFA], ids=lambda path: path.name)
def test_published_recipes_of_step_2_keep_ofa_s_values(path: Path) -> None:
    config = load_config(path)
    train, scst = config.train, config.scst
    assert (train.lr, train.lr_end, train.warmup_proportion, train.weight_decay) == (1e-5, 2e-7, 0.06, 0.001)
    assert (train.schedule, train.dropout, train.drop_path) == ("polynomial", 0.0, 0.0)
    assert train.max_epochs in (2, 3)
    assert (scst.num_candidates, scst.max_len_b) == (5, 16)
    assert train.batch_size * train.gradient_accumulation == 64


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_published_recipes_keep_ofa_s_values(path: Path) -> None:
    config = load_config(path)
    train, decoding = config.train, config.eval
    assert re.fullmatch(r"damo/ofa_pretrain_(tiny|base|large)_en", config.model.checkpoint or "")
    assert config.model.preset is None
    assert (train.label_smoothing, train.dropout, train.drop_path) == (0.1, 0.1, 0.1)
    assert (train.weight_decay, train.clip_norm, train.warmup_proportion) == (0.01, 1.0, 0.06)
    assert (train.adam_betas, train.adam_eps, train.schedule) == ((0.9, 0.999), 1e-8, "polynomial")
    assert (decoding.beam_size, decoding.max_len_b, decoding.no_repeat_ngram_size) == (5, 16, 3)
    assert 1e-5 <= train.lr <= 7.5e-5
    assert train.batch_size * train.gradient_accumulation == 128
    assert config.data.patch_image_size == (256 if "tiny" in path.name else 480)


@needs_shared
def test_the_photographs_of_the_small_recipe_are_where_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(ROOT / "conf" / "flickrstyle_small.json")
    for split in config.splits():
        arguments = config.reader_arguments(split)
        assert all(Path(arguments[name]).exists() for name in ("annotations", "image_dir", "styles"))


LXMERT = {"lxmert_vqa": (5e-5, "bce"), "lxmert_gqa": (1e-5, "bce"), "lxmert_nlvr2": (5e-5, "cross-entropy")}


@pytest.mark.parametrize("name", LXMERT)
def test_recipes_of_lxmert_keep_its_published_values(name: str) -> None:
    config = load_config(ROOT / "conf" / f"{name}.json")
    train = config.train
    assert (train.lr, train.loss) == LXMERT[name]
    assert (train.optimizer, train.schedule, train.warmup_proportion) == ("bertadam", "warmup_linear", 0.1)
    assert (train.batch_size, train.max_epochs, train.clip_norm) == (32, 4, 5.0)
    assert (train.adam_betas, train.adam_eps, train.weight_decay, train.dropout) == ((0.9, 0.999), 1e-6, 0.01, 0.1)
    assert (config.model.max_words, config.model.causal_attention) == (20, "none")


@needs_shared
def test_the_radiology_pictures_of_the_small_recipe_are_where_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    data = load_config(ROOT / "conf" / "lxmert_vqa_rad.json").data
    assert Path(data.train).exists()
    assert Path(data.images).exists()


def test_recipes_of_trar_keep_what_its_public_code_sets_elsewhere() -> None:
    vqa, clevr = (load_config(ROOT / "conf" / f"trar_{name}.json") for name in ("vqa", "clevr"))
    assert (vqa.model.max_words, vqa.data.image_ids, vqa.data.normalise) == (14, "number", "vqa")
    assert len(vqa.model.vocabulary.split(",")) == 4  # train, val, test, Visual Genome: the order numbers the words
    assert len(clevr.model.vocabulary.split(",")) == len(clevr.data.features.split(",")) == 3
    assert (vqa.model.config["pool_padding"], clevr.model.config["pool_padding"]) == (True, True)


@needs_shared
@pytest.mark.parametrize("name", ["trar_easy_vqa", "trar_shapes"])
def test_the_pictures_that_trar_learns_from_are_where_its_recipes_look(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    data = load_config(ROOT / "conf" / f"{name}.json").data
    beside = [part for part in [data.train, *data.images.split(",")] if part.startswith("../")]
    assert beside
    assert all(Path(part).exists() for part in beside)


def test_pre_training_of_lxmert_keeps_its_published_values() -> None:
    config = load_config(ROOT / "conf" / "lxmert_pretrain.json")
    train = config.train
    assert (train.batch_size, train.max_epochs, train.lr, train.warmup_proportion) == (256, 20, 1e-4, 0.05)
    assert (train.optimizer, train.schedule, train.word_mask_rate, train.box_mask_rate) == (
        *("bertadam", "warmup_linear"),
        *(0.15, 0.15),
    )
    assert (train.box_losses, train.masking, config.model.causal_attention) == ("published", "both", "none")


@pytest.mark.parametrize(
    ("name", "mode", "size", "batch", "masking"),
    [("catt_pretrain", "ft", 800, 256, "both"), ("catt_pretrain2", "ft_same", 500, 196, "one")],
)
def test_pre_training_of_catt_keeps_its_notes(name: str, mode: str, size: int, batch: int, masking: str) -> None:
    config = load_config(ROOT / "conf" / f"{name}.json")
    model, train = config.model, config.train
    assert (model.causal_attention, model.dictionary_words, model.dictionary_boxes) == (mode, size, size)
    assert (train.batch_size, train.lr, train.masking) == (batch, 5e-5, masking)
    first, second = train.phase_at(9), train.phase_at(10)
    assert set(second["losses"]) - set(first["losses"]) == {"answers"}


@pytest.mark.parametrize(("name", "lr"), [("catt_vqa", 4e-5), ("catt_gqa", 1e-6), ("catt_nlvr2", 3e-5)])
def test_recipes_of_catt_keep_its_published_values(name: str, lr: float) -> None:
    config = load_config(ROOT / "conf" / f"{name}.json")
    pretraining = load_config(ROOT / "conf" / "catt_pretrain2.json")
    assert (config.train.lr, config.train.batch_size, config.train.max_epochs) == (lr, 32, 4)
    assert config.model.checkpoint == f"{pretraining.work_dir}/checkpoints/best"
    for field in ("causal_attention", "dictionary_words", "dictionary_boxes", "cross_type"):
        assert getattr(config.model, field) == getattr(pretraining.model, field)


@needs_shared
def test_the_sentences_of_the_drawings_are_where_the_recipe_looks_and_no_split_shares_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    data = load_config(ROOT / "conf" / "lxmert_nlvr1.json").data
    questions = read_questions("train", format=data.format, questions=data.train.split(","))
    held = {one.extra["sentence_id"] for one in questions if one.extra["sentence_fold"] == 4}
    rest = {one.extra["sentence_id"] for one in questions if one.extra["sentence_fold"] != 4}
    assert held
    assert not held & rest
