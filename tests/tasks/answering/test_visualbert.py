"""VisualBERT as a network of the task: questions, pairs, what it starts from, and imdb files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import finetune
from data.features import Regions, new_store
from data.questions import Question, Questions, read_questions
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.visualbert.conversion import load_model
from models.visualbert.naming import to_original
from models.visualbert.starting import settle_regions, start_from_visualbert
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.reader import AnswerReader
from tests.conftest import SHARED, needs_shared
from tests.models.visualbert_nano import nano as network
from tests.tasks.answering.nano import DRAWN, nano
from trainers.answer_losses import score_divergence
from trainers.optimizer import optimizer_of

NETWORK = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
    "with_boxes": True,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", "red", "is", "it"]


def conf(folder: Path, data: dict[str, Any] = DRAWN, **sections: Any) -> Path:
    model = {"type": "visualbert", "config": NETWORK} | sections.pop("model", {})
    return nano(folder, model=model, data=data, **sections)


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err.splitlines()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visualbert")
    assert finetune.main(["--conf", str(conf(folder)), "--set", "train.max_steps=3", "train"]) == 0
    assert finetune.main(["--conf", str(conf(folder)), "train", "--resume"]) == 0
    return folder


def test_training_learns_and_every_command_takes_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (trained / "run" / "history.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-6:]) / 6 < losses[0] - 0.3
    file = trained / "conf.json"
    for control in ((), ("--control", "question-only"), ("--control", "majority")):
        assert 0 <= json.loads(run(capsys, "--conf", file, "eval", *control))["accuracy"] <= 1
    answers = json.loads(Path(run(capsys, "--conf", file, "predict", "--split", "test").strip()).read_text())
    assert {"question_id", "answer"} == answers[0].keys()
    assert len(run(capsys, "--conf", file, "inference", "--random", 3).splitlines()) == 3


def test_transformers_reads_what_training_wrote(trained: Path) -> None:
    from transformers import AutoModel, AutoTokenizer, BertTokenizer, VisualBertForQuestionAnswering, VisualBertModel

    best = trained / "run" / "checkpoints" / "best"
    theirs = VisualBertForQuestionAnswering.from_pretrained(best)
    ours = load_model(best)
    assert torch.equal(theirs.cls.weight, ours.cls.weight)
    assert theirs.config.id2label == dict(enumerate(ours.config.answers or []))
    assert ours.config.with_boxes
    assert isinstance(AutoModel.from_pretrained(best), VisualBertModel)
    assert isinstance(AutoTokenizer.from_pretrained(best), BertTokenizer)


def test_a_run_starts_from_another_s_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = trained / "run" / "checkpoints" / "best"
    again = conf(tmp_path, train={"max_steps": 1, "lr": 1e-9}, model={"checkpoint": str(best), "vocabulary": str(best)})
    run(capsys, "--conf", again, "train")
    former, now = (load_model(root / "run" / "checkpoints" / "best") for root in (trained, tmp_path))
    torch.testing.assert_close(now.cls.weight, former.cls.weight, atol=1e-6, rtol=0)


def test_weights_in_the_original_s_form_are_scored_as_they_are(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = trained / "run" / "checkpoints" / "best"
    run(capsys, "convert", best, "--out", tmp_path / "original", "--to", "original")
    words = ("--conf", trained / "conf.json", "--set", f"model.vocabulary={best}")
    found = json.loads(run(capsys, *words, "eval", "--checkpoint", tmp_path / "original"))
    assert found["accuracy"] == json.loads(run(capsys, "--conf", trained / "conf.json", "eval"))["accuracy"]

    run(capsys, "compare-weights", best, tmp_path / "original", "--tolerance", 0)
    pairs = ("--set", "data.format=demo-pairs", "--set", "data.demo_images=80", "--work_dir", tmp_path / "pairs")
    message = run(capsys, *words, *pairs, "eval", "--checkpoint", tmp_path / "original", code=2)
    assert "has the head 'vqa', and questions of 2 pictures need 'nlvr2'" in message


def test_a_release_without_answers_starts_with_a_new_head(tmp_path: Path) -> None:
    source, model = network("vqa"), network("vqa", initializer_range=0.01)
    torch.save(to_original(source.state_dict()), tmp_path / "a.th")
    built = model.cls.weight.clone()
    answers = ["a", "b", "c", "d", "e"]

    start_from_visualbert(model, tmp_path / "a.th", answers=answers)
    assert torch.equal(model.cls.weight, built)
    assert torch.equal(model.visual_bert.pooler.dense.weight, source.visual_bert.pooler.dense.weight)

    start_from_visualbert(model, tmp_path / "a.th", answers=answers, source_answers=["b", "x", "a", "y", "z"])
    assert torch.equal(model.cls.weight[:2], source.cls.weight[[2, 0]])
    assert not model.cls.weight[2:].any()
    with pytest.raises(ValueError, match="answer list has 1 answers"):
        start_from_visualbert(model, tmp_path / "a.th", answers=answers, source_answers=["b"])


def test_a_pair_is_two_kinds_of_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = conf(
        tmp_path,
        {"format": "demo-pairs", "demo_images": 80, "demo_questions": 1},
        train={"max_steps": 2, "train_pooler": False, "optimizer": "bertadam-each"},
    )
    run(capsys, "--conf", file, "train")
    model = load_model(tmp_path / "run" / "checkpoints" / "best")
    assert (model.config.head, model.config.num_labels) == ("nlvr2", 2)
    path = Path(run(capsys, "--conf", file, "predict", "--split", "test").strip())
    assert path.read_text().splitlines()[0].split(",")[-1] in ("True", "False")


# --- inputs -----------------------------------------------------------------------------------------------------------


def picture(name: str = "a", first: float = 0.0) -> Regions:
    features = np.arange(first, first + 6, dtype=np.float32).reshape(3, 2)
    return Regions(name, features, np.array([[0, 0, 2, 4]] * 3, dtype=np.float32), (4, 4))


def reader(**settings: Any) -> AnswerReader:
    return AnswerReader(load_wordpiece(VOCABULARY), **({"max_words": 8, "images": 1, "width": 2} | settings))


def test_the_mask_stands_behind_the_question_however_long() -> None:
    one = reader()
    batch = one.collate([one("Is it red?", [picture()]), one("it " * 9, [picture()])])
    assert batch["input_ids"].tolist() == [[2, 7, 8, 6, 5, 4, 3, 0], [2, 8, 8, 8, 8, 5, 4, 3]]
    assert "box_types" not in batch
    assert batch["features"].shape == (2, 3, 2)


def test_pairs_boxes_and_the_first_regions() -> None:
    two = reader(images=2, max_regions=2, with_boxes=True)
    batch = two.collate([two("it is red", [picture(), picture("b", 6)])])
    assert batch["input_ids"].tolist() == [[2, 8, 7, 6, 3]]
    assert batch["box_types"].tolist() == [[0, 0, 1, 1]]
    assert batch["features"][0, 2].tolist() == [6, 7, 0, 0, 0.5, 1, 0.5, 1]
    with pytest.raises(ValueError, match="1 pictures for a model of 2"):
        two("it", [picture()])
    with pytest.raises(ValueError, match="picture a: its features are 2 wide, and the model reads 5"):
        reader(width=5)("it", [picture()])
    with pytest.raises(ValueError, match="at least 4"):
        reader(max_words=3)


def test_the_mean_region_becomes_zero_and_boxes_count_as_much() -> None:
    model = VisualBERTModel(
        VisualBERTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, visual_embedding_dim=5, vocab_size=9
        )
    )
    rows = torch.rand(2, 20, 5) * torch.tensor([10, 10, 10, 0.1, 0.1])
    before = model.visual_bert.embeddings.visual_projection.weight.clone()
    settle_regions(model, rows, box_numbers=2)
    layer = model.visual_bert.embeddings.visual_projection
    assert layer(rows).mean((0, 1)).abs().max() < 1e-4
    assert torch.equal(layer.weight[:, :3], before[:, :3])
    assert (layer.weight[:, 3:] / before[:, 3:]).mean().item() == pytest.approx((3 / 2) ** 0.5 * 100, rel=0.2)


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_divergence_is_the_original_s() -> None:
    logits, scores = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.6, 0.0], [1.0, 1.0]])
    # 0.6 (log 0.6 - log 0.5), and twice 1 (0 - log 0.5)
    expected = (0.6 * np.log(0.6 / 0.5) + 2 * np.log(2)) / 2
    assert score_divergence(logits, scores).item() == pytest.approx(expected, rel=1e-6)


def test_each_tensor_is_clipped_by_its_optimizer() -> None:
    layer = torch.nn.Linear(1, 1)
    kind = optimizer_of("bertadam-each", lr=1.0, betas=(0.0, 0.0), eps=1.0, weight_decay=0.0)
    optimizer = kind(layer)
    before = [parameter.item() for parameter in layer.parameters()]
    for parameter, gradient in zip(layer.parameters(), (100.0, 0.5), strict=True):
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    # m / (sqrt(v) + 1) of gradients of 1 and of 0.5
    moved = [was - parameter.item() for was, parameter in zip(before, layer.parameters(), strict=True)]
    assert moved == pytest.approx([0.5, 1 / 3], abs=1e-4)


# --- imdb -------------------------------------------------------------------------------------------------------------


@needs_shared
def test_imdb_questions_are_a_format_and_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imdb = SHARED / "parity" / "visualbert" / "formats" / "imdb_minival2014.npy"
    questions: Questions = read_questions("train", format="imdb", questions=[imdb])
    first: Question = questions[0]
    assert first.images[0].startswith("COCO_")
    assert first.references
    with new_store(tmp_path / "store", dtype="float32", grid=None) as writer:
        for name in questions.image_ids:
            writer.add(Regions(name, np.ones((3, 4), np.float32)), name)
        writer.finish("", [], None)
    answers = SHARED / "parity" / "visualbert" / "answers_vqa.txt"
    data = {"format": "imdb", "train": str(imdb), "val": str(imdb), "features": str(tmp_path / "store")}
    file = conf(
        tmp_path,
        data | {"answers": str(answers)},
        model={"config": NETWORK | {"with_boxes": False}},
        train={"loss": "kl", "batch_size": 3, "max_steps": 1},
    )
    run(capsys, "--conf", file, "train")
    path = run(capsys, "--conf", file, "predict", "--split", "val").strip()
    assert "<unk>" not in Path(path).read_text()
    [row, *_] = json.loads(run(capsys, "--conf", file, "eval") and (tmp_path / "run/predictions.json").read_text())
    assert "<unk>" not in [answer for answer, _ in row["top"]]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"config": NETWORK | {"hiden_size": 3}}}, "no field of VisualBERT; did you mean hidden_size"),
        ({"model": {"max_words": 25}}, "model.max_words = 25, but the model has 24 positions"),
        ({"model": {"causal_attention": "ft"}}, "belongs to lxmert"),
        ({"model": {"config": NETWORK | {"max_regions": 0}}}, "max_regions 0 must be 1 or more"),
        ({"model": {"config": NETWORK | {"num_attention_heads": 3}}}, "not divisible by num_attention_heads"),
    ],
)
def test_what_a_configuration_can_get_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, Any], message: str
) -> None:
    assert message in run(capsys, "--conf", conf(tmp_path, **sections), "train", code=2)
