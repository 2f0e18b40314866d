"""VisualBERT as a network that is pre-trained: its two losses, its pairs of captions, and fine-tuning from it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import finetune
from config import load_config
from data.features import Regions, new_store
from data.questions import read_questions
from models.visualbert.conversion import load_model
from tasks.pretraining.models import Phase, network_of
from tasks.pretraining.records import known_of, read_records
from tests.conftest import SHARED, needs_shared
from tests.tasks.answering.nano import nano as answering
from tests.tasks.answering.test_visualbert import NETWORK
from tests.tasks.answering.vcr_made import made as vcr_files
from tests.tasks.pretraining.nano import nano

WIDER = NETWORK | {"max_position_embeddings": 48}
MODEL = {"type": "visualbert", "config": WIDER, "max_words": 48}
BOTH = Phase(("words", "matched"), "both")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visualbert-pretraining")
    conf = nano(folder, model=MODEL)
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=3", "train"]) == 0
    assert finetune.main(["--conf", str(conf), "train", "--resume"]) == 0
    return folder


def test_words_and_matches_are_learnt_and_scored(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (trained / "run" / "history.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {name for name in rows[0] if name.startswith("loss/")} == {"loss/words", "loss/matched"}
    assert rows[0]["loss"] == pytest.approx(rows[0]["loss/words"] + rows[0]["loss/matched"], rel=1e-4)

    assert finetune.main(["--conf", str(trained / "conf.json"), "eval"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["loss"] == pytest.approx(found["loss/words"] + found["loss/matched"])
    shown = json.loads((trained / "run" / "predictions.json").read_text())
    asked = [row["scores"]["matched"] for row in shown if "matched" in row["scores"]]
    assert found["matched"] == pytest.approx(sum(asked) / len(asked))
    assert len(asked) < len(shown)  # a question is not asked whether it belongs to its picture


def test_the_same_example_is_drawn_again_and_another_one_in_the_next_epoch(trained: Path) -> None:
    config = load_config(trained / "conf.json")
    records = read_records(config, "train")
    made = (
        network_of("visualbert")
        .open(config, trained / "run" / "checkpoints" / "best", known_of(config, records))
        .examples(records, 3, False)
    )

    def texts(epoch: int) -> list[list[int]]:
        return [made(row, epoch, BOTH)["item"].texts[0].ids for row in range(20)]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)
    captions = [row for row, one in enumerate(records) if not one.references]
    labels = [made(row, 0, BOTH)["item"].label for row in captions]
    assert 0.3 < sum(labels) / len(labels) < 0.7


def test_a_fine_tuning_starts_from_it(trained: Path, tmp_path: Path) -> None:
    best = trained / "run" / "checkpoints" / "best"
    model: dict[str, Any] = {"type": "visualbert", "vocabulary": None, "checkpoint": str(best), "config": {}}
    conf = answering(tmp_path, model=model, train={"max_steps": 1, "lr": 1e-9})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    before, after = load_model(best), load_model(tmp_path / "run" / "checkpoints" / "best")
    assert after.config.head == "vqa"
    assert after.config.with_boxes
    for name, tensor in after.visual_bert.state_dict().items():
        torch.testing.assert_close(tensor, before.visual_bert.state_dict()[name], atol=1e-6, rtol=0)


def written(folder: Path, names: Sequence[str]) -> str:
    with new_store(folder / "store", dtype="float32", grid=None) as writer:
        for name in names:
            writer.add(Regions(name, np.ones((3, 4), np.float32)), name)
        writer.finish("", [], None)
    return str(folder / "store")


@needs_shared
@pytest.mark.parametrize(
    ("form", "file", "losses"),
    [
        ("imdb", "imdb_minival2014.npy", "words"),
        ("coco-captions", "captions_val2014.json", "words,matched"),
        ("nlvr2", "nlvr2_dev.json", "words,matched"),
        ("nlvr2", "nlvr2_dev.json", "words"),
    ],
)
def test_the_original_s_files_are_learnt_from(tmp_path: Path, form: str, file: str, losses: str) -> None:
    path = SHARED / "parity" / "visualbert" / "formats" / file
    sentences = read_questions("train", format=form, questions=[path])
    data = {"format": form, "train": str(path), "features": written(tmp_path, sentences.image_ids)}
    train = {"losses": losses, "max_epochs": 1, "batch_size": 2, "optimizer": "bertadam-each", "train_pooler": False}
    conf = nano(tmp_path, model=MODEL | {"config": WIDER | {"with_boxes": False}}, data=data, train=train)
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert {name for name in rows[0] if name.startswith("loss/")} == {f"loss/{name}" for name in losses.split(",")}
    assert finetune.main(["--conf", str(conf), "eval", "--split", "train"]) == 0


def examples(folder: Path, data: dict[str, Any], **train: Any) -> tuple[Any, Any]:
    """Those of the training split, and its records."""
    model = MODEL | {"config": WIDER | {"with_boxes": False}}
    config = load_config(nano(folder, model=model, data=data, train=train))
    records = read_records(config, "train")
    return network_of("visualbert").build(config, known_of(config, records), None).examples(records, 3, False), records


@needs_shared
def test_a_sentence_about_two_pictures_is_asked_whether_it_is_true(tmp_path: Path) -> None:
    path = SHARED / "parity" / "visualbert" / "formats" / "nlvr2_dev.json"
    names = read_questions("train", format="nlvr2", questions=[path]).image_ids
    made, records = examples(tmp_path, {"format": "nlvr2", "train": str(path), "features": written(tmp_path, names)})
    items = [made(row, 0, BOTH)["item"] for row in range(len(records))]
    assert [item.label for item in items] == [int(one.answer == "True") for one in records]
    assert items[0].box_types.tolist() == [0, 0, 0, 1, 1, 1]


def test_vcr_s_questions_stand_before_each_of_their_choices(tmp_path: Path) -> None:
    files = vcr_files(tmp_path)
    data = {"format": "vcr-pairs", "train": files["train"], "features": files["features"]}
    made, records = examples(tmp_path, data)
    assert len(records) == 8 * 32
    items = [made(row, 0, BOTH)["item"] for row in range(8)]
    labels = [item.label for item in items]
    assert (sum(labels[:4]), sum(labels[4:])) == (1, 1)
    assert labels == [int(one.answer == "True") for one in records.questions[:8]]
    assert all(items[0].alignment[0][region] for region in (1, 3))  # a person and the chair are named
    assert items[0].features.shape == (4, 6)
    assert items[0].alignment != items[4].alignment

    train = {"losses": "words,matched", "max_epochs": 1, "batch_size": 16}
    model = MODEL | {"config": WIDER | {"with_boxes": False}}
    conf = nano(tmp_path, model=model, data=data | {"val": files["val"]}, train=train)
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    assert finetune.main(["--conf", str(conf), "eval"]) == 0


@needs_shared
def test_second_captions_may_be_drawn_once(tmp_path: Path) -> None:
    path = SHARED / "parity" / "visualbert" / "formats" / "captions_val2014.json"
    names = read_questions("train", format="coco-captions", questions=[path]).image_ids
    data = {"format": "coco-captions", "train": str(path), "features": written(tmp_path, names)}

    def labels(pairs: str) -> set[tuple[int, ...]]:
        made, records = examples(tmp_path, data, caption_pairs=pairs)
        return {tuple(made(row, epoch, BOTH)["item"].label for row in range(len(records))) for epoch in range(12)}

    assert len(labels("once")) == 1
    assert len(labels("every_epoch")) > 1


def test_a_caption_of_an_unlisted_picture(tmp_path: Path) -> None:
    content = {"images": [], "annotations": [{"id": 1, "image_id": 2, "caption": "a dog"}]}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="image_id 2 is not among the images"):
        read_questions("train", format="coco-captions", questions=tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"type": "lxmert"}, "data": {"format": "nlvr2", "train": "a", "features": "b"}}, "in pre-training"),
        ({"train": {"losses": "objects"}}, "none of VisualBERT's: words, matched"),
        ({"model": MODEL | {"config": WIDER | {"l_layers": 2}}}, "l_layers is no field of VisualBERT"),
        ({"model": MODEL | {"max_words": 50}}, "model.max_words = 50, but the model has 48 positions"),
    ],
)
def test_what_a_configuration_can_get_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, Any], message: str
) -> None:
    assert finetune.main(["--conf", str(nano(tmp_path, **({"model": MODEL} | sections))), "train"]) == 2
    assert message in capsys.readouterr().err
