"""What a user can get wrong is one line that says what, where and the remedy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import finetune
from config import parse_config
from data.features import FeatureStore, Regions, new_store
from tasks.answering.objective import Answering
from tests.conftest import SHARED, needs_shared
from tests.tasks.answering.nano import NETWORK, drawn_files, nano


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn/, conf.json and a run of one update."""
    folder = tmp_path_factory.mktemp("answering")
    conf = nano(folder, data=drawn_files(folder))
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=1", "train"]) == 0
    return folder


def fails(capsys: pytest.CaptureFixture[str], message: str, *arguments: Any) -> None:
    assert finetune.main([str(argument) for argument in arguments]) == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert text.startswith("finetune.py: error: ")
    assert re.search(message, text), text


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def test_an_answer_list_of_another_size_than_the_head(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.json").write_text(json.dumps(["yes", "no"]))
    checkpoint = trained / "run" / "checkpoints" / "best"
    wrong = sets(f"model.checkpoint={checkpoint}", f"model.checkpoint_answers={tmp_path / 'few.json'}")
    fails(
        capsys,
        "answer list has 2 answers, but the model's head scores",
        *("--conf", trained / "conf.json", "train", "--work_dir", tmp_path / "run", *wrong),
    )
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in checkpoint.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    (copied / "answers.json").write_text(json.dumps(["yes", "no"]))
    fails(capsys, "answer list has 2 answers", "--conf", trained / "conf.json", "eval", "--checkpoint", copied)


def test_features_of_another_width(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeatureStore(trained / "drawn" / "regions")
    with new_store(tmp_path / "narrow", dtype="float32") as writer:
        for row in range(len(store)):
            one = store.regions(row)
            writer.add(Regions(one.image_id, one.features[:, :10].copy(), one.boxes, one.size), "test")
        writer.finish("test", [], None)
    narrow = sets(f"data.features={tmp_path / 'narrow'}")
    fails(capsys, "10 wide, and the model reads 64", "--conf", trained / "conf.json", "eval", *narrow)
    started = sets(f"model.checkpoint={trained / 'run' / 'checkpoints' / 'best'}")
    fails(
        capsys,
        "10 wide.*trained with features of 64",
        *("--conf", trained / "conf.json", "train", "--work_dir", tmp_path / "run", *narrow, *started),
    )


def test_a_sentence_longer_than_the_positions(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = sets("model.max_words=25")
    fails(
        capsys,
        "model.max_words = 25, but the model has 24 positions: lower it",
        *("--conf", trained / "conf.json", "train", "--work_dir", tmp_path / "run", *longer),
    )


def test_a_long_question_is_cut_to_max_words(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((trained / "drawn" / "images").iterdir())
    words = " ".join(["colour"] * 200)
    conf = str(trained / "conf.json")
    assert finetune.main(["--conf", conf, "inference", "--image", str(picture), "--question", words]) == 0


def test_a_pair_with_one_image_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn_files(tmp_path)
    rows = [json.loads(line) for line in Path(data["train"]).read_text().splitlines()]
    images = [row["image"] for row in rows]
    pairs = [row | {"image2": other, "answer": "True"} for row, other in zip(rows, images[4:], strict=False)]
    del pairs[3]["image2"]
    Path(data["train"]).write_text("\n".join(map(json.dumps, pairs)))
    fails(
        capsys,
        f"question {pairs[3]['question_id']} has 1 pictures where others have 2: a pair needs its left and its right",
        *("--conf", nano(tmp_path, data=data), "train"),
    )


def test_a_checkpoint_of_another_system(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"encoder.embed_tokens.weight": torch.zeros(3, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    conf = trained / "conf.json"
    fails(
        capsys, "no checkpoint of LXMERT, but looks like one of OFA", "--conf", conf, "eval", "--checkpoint", tmp_path
    )
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in (trained / "run" / "checkpoints" / "best").iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    settings = json.loads((copied / "answering.json").read_text())
    (copied / "answering.json").write_text(json.dumps(settings | {"type": "trar"}))
    fails(capsys, "checkpoint of trar, and model.type is", "--conf", conf, "eval", "--checkpoint", copied)


def test_a_vocabulary_of_another_model(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf, work_dir = trained / "conf.json", tmp_path / "run"
    (tmp_path / "bpe.txt").write_text("<s>\n<pad>\nĠthe\n")
    wrong = sets(f"model.vocabulary={tmp_path / 'bpe.txt'}")
    fails(capsys, "vocabulary of another model", "--conf", conf, "train", "--work_dir", work_dir, *wrong)
    (tmp_path / "small.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    started = sets(
        f"model.checkpoint={trained / 'run' / 'checkpoints' / 'best'}", f"model.vocabulary={tmp_path / 'small.txt'}"
    )
    fails(
        capsys,
        "vocabulary has 6 entries, but the model embeds",
        *("--conf", conf, "train", "--work_dir", work_dir, *started),
    )


def test_a_question_without_answer_or_feature_is_not_submitted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (trained / "drawn" / "questions_test.jsonl").read_text().splitlines()
    (tmp_path / "test.jsonl").write_text("\n".join([lines[0], lines[1].replace('"image": "', '"image": "x')]))
    out = tmp_path / "out.json"
    test = sets(f"data.test={tmp_path / 'test.jsonl'}")
    conf = trained / "conf.json"
    fails(
        capsys, "1 of 2 pictures have no features", "--conf", conf, "predict", "--split", "test", "--output", out, *test
    )
    assert not out.exists()
    record = json.loads(lines[0]) | {"question": " "}
    (tmp_path / "test.jsonl").write_text(json.dumps(record))
    fails(capsys, "is empty", "--conf", conf, "predict", "--split", "test", "--output", out, *test)


def test_scores_need_answers(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((trained / "drawn" / "questions_test.jsonl").read_text().splitlines()[0])
    del record["answer"]
    (tmp_path / "test.jsonl").write_text(json.dumps(record))
    test = sets(f"data.test={tmp_path / 'test.jsonl'}")
    fails(capsys, "no answer to score against", "--conf", trained / "conf.json", "eval", "--split", "test", *test)


@pytest.mark.parametrize("loss", ["bce", "mce", "cross-entropy"])
def test_labels_that_are_all_ignored_give_a_finite_loss(loss: str) -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    objective = Answering(loss, lambda model, batch: logits)
    batch = {"scores": torch.zeros(3, 4), "question_ids": [1, 2, 3]}
    found = objective(None, batch, 0)
    found.loss_sum.backward()
    assert objective.count(batch, 0) > 0
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert loss == "bce" or found.loss_sum.item() == 0


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"vocabulary": None}, "a new model needs model.vocabulary"),
        ("model", {"start": "minilm"}, "brings its own vocabulary"),
        ("model", {"start": "a", "checkpoint": "b", "vocabulary": None}, "remove one of them"),
        ("model", {"dictionaries": "kmeans"}, "set model.causal_attention"),
        ("data", {"format": "plain"}, "data.train, data.val, data.test"),
        ("data", {"format": "plain", "train": "a.jsonl"}, "feature store"),
        ("data", {"features": "a"}, "draws its own"),
        ("data", {"format": "plain", "train": "a", "val": "b", "features": "c", "held_out": {"f": 1}}, "held_out"),
        ("data", {"format": "plain", "train": "a", "train_answers": "b", "features": "c"}, "belongs to data.format"),
        ("train", {"gradient_checkpointing": True}, "gradient_checkpointing"),
        ("train", {"schedule_drops": "a"}, "schedule_drops"),
    ],
)
def test_contradictions_of_the_configuration(section: str, values: dict[str, Any], message: str) -> None:
    document: dict[str, Any] = {
        "task": "visual-question-answering",
        "model": {"vocabulary": "train", "config": NETWORK},
        "data": {"format": "demo"},
    }
    document[section] = document.get(section, {}) | values
    with pytest.raises(ValueError, match=message):
        parse_config(document)


def test_unknown_fields_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = sets("model.config.hiden_size=8")
    fails(capsys, "did you mean hidden_size", "--conf", nano(tmp_path), "train", *wrong)
    fails(capsys, "not divisible", "--conf", nano(tmp_path), "train", *sets("model.config.num_attention_heads=3"))


def test_a_checkpoint_on_the_command_line_keeps_the_type_and_brings_its_shape() -> None:
    document = {
        "task": "visual-question-answering",
        "model": {"vocabulary": "train", "config": NETWORK, "causal_attention": "ft"},
        "data": {"format": "demo"},
    }
    model = parse_config(document, flags={"checkpoint": "runs/best"}).model
    assert (model.vocabulary, model.config, model.causal_attention) == (None, {}, "ft")


@needs_shared
def test_the_original_s_questions_and_features_are_read_and_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = SHARED / "parity" / "lxmert" / "formats"
    store = tmp_path / "store"
    assert finetune.main(["features", "import", str(formats / "features.tsv"), "--out", str(store)]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["images"] == 3
    assert finetune.main(["features", "check", str(store)]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    rows = json.loads((formats / "vqa_train.json").read_text())
    names = list(FeatureStore(store))
    for row, name in zip(rows, names, strict=False):
        row["img_id"] = name
    (tmp_path / "vqa.json").write_text(json.dumps(rows))
    data = {"format": "lxmert", "train": str(tmp_path / "vqa.json"), "val": str(tmp_path / "vqa.json")}
    conf = nano(tmp_path, data=data | {"features": str(store)}, train={"batch_size": 2, "max_epochs": 1})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    assert finetune.main(["--conf", str(conf), "eval"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["accuracy"] <= 1


def test_weights_of_the_original_s_form_are_opened(trained: Path, tmp_path: Path) -> None:
    """A bare file of weights: words and answers are those of the configuration."""
    folder = trained / "run" / "checkpoints" / "best"
    weights = {f"module.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    torch.save(weights, tmp_path / "BEST.pth")
    arguments = ["--conf", str(trained / "conf.json"), "eval", "--checkpoint", str(tmp_path / "BEST.pth")]
    keep = sets(f"model.vocabulary={folder}", "model.config.num_attention_heads=2")
    assert finetune.main([*arguments, *keep]) == 0
