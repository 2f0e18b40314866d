"""What causal attention adds to the commands: dictionaries that are watched, their starts, and what is refused."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import finetune
from config import parse_config
from tests.tasks.answering.nano import nano
from tests.tasks.pretraining.nano import nano as pretraining

CATT = {"causal_attention": "ft_same", "dictionary_words": 6, "dictionary_boxes": 7}


def entropies(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]
    return [{n: v for n, v in row.items() if n.startswith("dictionary/")} for row in rows if "loss" in row]


def test_entropies_of_the_dictionaries_are_logged_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = str(nano(tmp_path, model=CATT, train={"max_steps": 11}))
    assert finetune.main(["--conf", conf, "train"]) == 0
    found = entropies(tmp_path)
    assert [sorted(row) for row in found[:2]] == [["dictionary/boxes", "dictionary/words"], []]
    # new dictionaries lie close together: all entries are looked at nearly alike
    assert found[0]["dictionary/words"] == pytest.approx(math.log(6), abs=1e-3)
    assert found[0]["dictionary/boxes"] == pytest.approx(math.log(7), abs=1e-3)
    assert sorted(found[10]) == ["dictionary/boxes", "dictionary/words"]
    assert finetune.main(["--conf", conf, "eval"]) == 0
    evaluated = json.loads((tmp_path / "run" / "metrics.json").read_text())["dictionaries"]
    assert {name: list(layers) for name, layers in evaluated.items()} == {"words": ["layer 1"], "boxes": ["layer 1"]}
    rows = json.loads((tmp_path / "run" / "predictions.json").read_text())
    for name, entries in (("words", 6), ("boxes", 7)):
        found = evaluated[name]["layer 1"]
        assert 0 < found["nats"] <= round(math.log(entries), 4)
        assert found["share"] == pytest.approx(found["nats"] / math.log(entries), abs=2e-4)
        each = [row["dictionaries"][name]["layer 1"]["nats"] for row in rows]
        assert found["nats"] == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert finetune.main(["report", str(tmp_path / "run"), "--bootstrap", "10"]) == 0
    page = Path(capsys.readouterr().out.splitlines()[-1]).read_text()
    assert "Entropy of the attention over the dictionary of words, nats: run from 1.79 to" in page
    words = evaluated["words"]["layer 1"]
    assert f"(evaluated, layer 1: {words['nats']:.2f}, {100 * words['share']:.0f}% of the most)" in page


def test_a_model_without_dictionaries_logs_none(tmp_path: Path) -> None:
    assert finetune.main(["--conf", str(nano(tmp_path, train={"max_steps": 1})), "train"]) == 0
    assert entropies(tmp_path) == [{}]
    assert finetune.main(["--conf", str(tmp_path / "conf.json"), "eval"]) == 0
    assert "dictionaries" not in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_keys_that_are_all_alike_are_looked_at_alike(tmp_path: Path) -> None:
    conf = str(nano(tmp_path, model=CATT, train={"max_steps": 1}))
    assert finetune.main(["--conf", conf, "train"]) == 0
    weights = next((tmp_path / "run" / "checkpoints").glob("last/*.safetensors"))
    kept = load_file(weights)
    for name, tensor in kept.items():
        if name.endswith((".ML", ".MV")):
            tensor.fill_(0.5)
    save_file(kept, weights, metadata={"format": "pt"})
    assert finetune.main(["--conf", conf, "eval", "--checkpoint", str(weights.parent)]) == 0
    evaluated = json.loads((tmp_path / "run" / "metrics.json").read_text())["dictionaries"]
    assert evaluated == {
        name: {"layer 1": {"nats": round(math.log(entries), 4), "share": 1.0}}
        for name, entries in (("words", 6), ("boxes", 7))
    }


def test_pre_training_with_one_coin_an_example_starts_a_fine_tuning(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    conf = pretraining(first, model=CATT, train={"masking": "one", "max_steps": 2, "batch_size": 2})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    assert entropies(first)[0].keys() == {"dictionary/boxes", "dictionary/words"}
    start: dict[str, Any] = {"vocabulary": None, "config": {}, "checkpoint": str(first / "run/checkpoints/last")}
    assert finetune.main(["--conf", str(nano(second, model=CATT | start, train={"max_steps": 1})), "train"]) == 0


def fails(capsys: pytest.CaptureFixture[str], message: str, conf: Path) -> None:
    assert finetune.main(["--conf", str(conf), "train"]) == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, text), text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"ft_large": True}, 'ft_large belongs to causal_attention "ft"; here it is "ft_same"'),
        (
            {"dictionaries": "kmeans", "dictionary_words": 100000},
            r"dictionary of words: \d+ samples cannot make 100000",
        ),
        ({"dictionaries": "kmeans", "dictionary_boxes": 5000}, r"dictionary of boxes: \d+ samples cannot make 5000"),
    ],
)
def test_what_causal_attention_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any], message: str
) -> None:
    fails(capsys, message, nano(tmp_path, model=CATT | model))


def test_dictionaries_of_another_size_than_the_checkpoint_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "first").mkdir()
    assert finetune.main(["--conf", str(nano(tmp_path / "first", model=CATT, train={"max_steps": 1})), "train"]) == 0
    start: dict[str, Any] = {
        "vocabulary": None,
        "config": {},
        "checkpoint": str(tmp_path / "first/run/checkpoints/last"),
        "dictionary_words": 9,
    }
    fails(capsys, "dictionary_words is 6 in the weights and 9 in the model", nano(tmp_path, model=CATT | start))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"losses": "words,sentences"}, "train.losses = 'words,sentences' must be some of words,matched"),
        ({"losses": ""}, "must be some of"),
        ({"masking": "neither"}, "train.masking"),
        ({"phases": {"a": 3}}, "train.phases.a must be an object"),
        ({"phases": {"a": {"epochs": 0}}}, "train.phases.a.epochs = 0 must be a whole number from 1"),
        ({"phases": {"a": {"epochs": 2, "loses": "words"}}}, "train.phases.a.loses is not known"),
        ({"phases": {"a": {"epochs": 2, "losses": "word"}}}, "train.phases.a.losses = 'word' must be some of"),
        ({"phases": {"a": {"epochs": 2, "masking": "no"}}}, "train.phases.a.masking = 'no' must be one of both, one"),
        ({"phases": {"a": {"epochs": 2, "schedule": "up"}}}, "train.phases.a.schedule"),
        ({"phases": {"a": {"epochs": 2, "lr": "big"}}}, "train.phases.a.lr = 'big' must be a number"),
        ({"phases": {"a": {"epochs": 3}}}, "train.max_epochs = 2, but train.phases have 3 epochs: set it to that"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing is not there"),
    ],
)
def test_contradictions_of_pre_training(train: dict[str, Any], message: str) -> None:
    document = {
        "task": "vision-language-pretraining",
        "model": {"vocabulary": "train"},
        "data": {"format": "demo"},
        "train": {"max_epochs": 2} | train,
    }
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_config(document)


def test_labels_that_the_model_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = pretraining(
        tmp_path,
        model={"config": json.loads((pretraining(tmp_path)).read_text())["model"]["config"] | {"num_object_labels": 3}},
    )
    fails(capsys, r"objects_id has \d+, and the model knows 3 objects", conf)
