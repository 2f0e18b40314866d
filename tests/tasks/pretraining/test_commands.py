"""Every command with a nano LXMERT that is pre-trained, and fine-tuning from it."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import finetune
from data.features import FeatureStore
from tests.conftest import SHARED, needs_shared
from tests.tasks.answering.nano import drawn_files
from tests.tasks.answering.nano import nano as answering
from tests.tasks.pretraining.nano import NETWORK, nano

ALL = {"words", "matched", "objects", "attributes", "features", "answers"}


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with conf.json and a run that was interrupted and resumed."""
    folder = tmp_path_factory.mktemp("pretraining")
    conf = nano(folder)
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=3", "train"]) == 0
    assert finetune.main(["--conf", str(conf), "train", "--resume"]) == 0
    return folder


def test_all_losses_are_learnt_and_logged(trained: Path) -> None:
    rows = [row for row in history(trained) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {name.removeprefix("loss/") for name in rows[0] if name.startswith("loss/")} == ALL
    parts = sum(rows[0][f"loss/{name}"] for name in ALL)
    assert rows[0]["loss"] == pytest.approx(parts, rel=1e-4)


def test_resuming_changes_nothing(trained: Path, tmp_path: Path) -> None:
    assert finetune.main(["--conf", str(nano(tmp_path)), "train"]) == 0
    assert [row.get("loss") for row in history(tmp_path)][-3:] == [row.get("loss") for row in history(trained)][-3:]


def test_eval_gives_losses_shares_and_intervals_and_a_control(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = trained / "conf.json"
    found = json.loads(run(capsys, "--conf", conf, "eval"))
    assert found["loss"] == pytest.approx(sum(found[f"loss/{name}"] for name in ALL))
    assert {"words", "matched", "objects", "attributes", "answers"} <= found.keys()
    assert found["matched"] == pytest.approx(
        sum(row["scores"]["matched"] for row in json.loads((trained / "run" / "predictions.json").read_text()))
        / found["n_sentences"]
    )
    assert found["intervals"]["matched"][0] <= found["matched"] <= found["intervals"]["matched"][1]
    hidden = json.loads(run(capsys, "--conf", conf, "eval", "--control", "text-only"))
    assert hidden["loss/features"] != found["loss/features"]
    page = Path(run(capsys, "report", trained / "run", "--bootstrap", "10").strip())
    assert "Loss: words" in page.read_text()
    assert json.loads(run(capsys, "compare", trained / "run", trained / "run", "--json"))["matched"]["difference"] == 0


def test_a_fine_tuning_starts_from_it(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "run" / "checkpoints" / "best"
    start: dict[str, Any] = {"vocabulary": None, "checkpoint": str(checkpoint), "config": {}}
    conf = answering(tmp_path, model=start, train={"max_steps": 1, "lr": 1e-9})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tmp_path / "run" / "checkpoints" / "best" / "model.safetensors")
    name = "lxmert.encoder.x_layers.0.lang_inter.dense.weight"
    assert (after[name] - before[name]).abs().max() < 1e-6
    answers = [
        json.loads((folder / "answers.json").read_text())
        for folder in (checkpoint, tmp_path / "run" / "checkpoints" / "best")
    ]
    row, moved = (names.index("yes") for names in answers)
    head = "answer_head.logit_fc.3.weight"
    assert (after[head][moved] - before[head][row]).abs().max() < 1e-6


def test_two_micro_batches_are_one_batch_of_twice_the_size(tmp_path: Path) -> None:
    weights = []
    for name, train in {"one": {"batch_size": 16}, "two": {"batch_size": 8, "gradient_accumulation": 2}}.items():
        (tmp_path / name).mkdir()
        assert finetune.main(["--conf", str(nano(tmp_path / name, train=train | {"max_steps": 1})), "train"]) == 0
        weights.append(history(tmp_path / name)[0])
    assert weights[0]["loss"] == pytest.approx(weights[1]["loss"], rel=1e-5)
    assert weights[0]["grad_norm"] == pytest.approx(weights[1]["grad_norm"], rel=1e-4)


def test_doctor_finds_nothing_wrong_with_drawn_sentences(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(json.loads(run(capsys, "--conf", trained / "conf.json", "doctor", "--json"))) == {"train", "val", "test"}


def test_phases_have_losses_and_schedules_of_their_own(tmp_path: Path) -> None:
    phases = {
        "without answers": {"epochs": 1, "losses": "words,matched,objects,attributes,features"},
        "with answers": {"epochs": 1, "lr": 0.001},
    }
    train = {"phases": phases, "schedule": "linear", "warmup_proportion": 0.0}
    conf = nano(tmp_path, train=train)
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=2", "train"]) == 0
    assert finetune.main(["--conf", str(conf), "train", "--resume"]) == 0
    rows = [row for row in history(tmp_path) if "loss" in row]
    half = len(rows) // 2
    assert ["loss/answers" in row for row in rows] == [False] * half + [True] * half
    assert (rows[0]["lr"], rows[half]["lr"]) == (0.005, 0.001)
    assert rows[half - 1]["lr"] == pytest.approx(0.005 / half)


@pytest.mark.parametrize("start", ["first", "second"])
def test_a_run_is_resumed_in_either_phase(tmp_path: Path, start: str) -> None:
    phases = {"first": {"epochs": 1, "losses": "words,matched"}, "second": {"epochs": 1, "masking": "one"}}
    sets = {"first": 2, "second": 9}
    found = []
    for name in ("through", "resumed"):
        (tmp_path / name).mkdir()
        conf = str(nano(tmp_path / name, train={"phases": phases, "schedule": "linear"}))
        if name == "resumed":
            assert finetune.main(["--conf", conf, "--set", f"train.max_steps={sets[start]}", "train"]) == 0
        assert finetune.main(["--conf", conf, "train", "--resume"]) == 0
        found.append([(row["step"], row["loss"], row["lr"]) for row in history(tmp_path / name) if "loss" in row])
    assert len(found[0]) > sets[start]
    assert found[0] == found[1]


@needs_shared
def test_the_original_s_sentences_and_features_are_learnt_from(tmp_path: Path) -> None:
    formats = SHARED / "parity" / "lxmert" / "formats"
    store = tmp_path / "store"
    assert finetune.main(["features", "import", str(formats / "features.tsv"), "--out", str(store)]) == 0
    rows = json.loads((formats / "pretraining.json").read_text())
    for row, name in zip(rows, FeatureStore(store), strict=False):
        row["img_id"] = name
    (tmp_path / "sentences.json").write_text(json.dumps(rows))
    data = {"format": "lxmert-pretraining", "train": str(tmp_path / "sentences.json"), "features": str(store)}
    network = NETWORK | {"num_object_labels": 1600, "num_attr_labels": 400}
    data |= {"answers": str(formats / "all_ans.json")}
    conf = nano(tmp_path, data=data, model={"config": network}, train={"batch_size": 2, "box_losses": "published"})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    assert {name for row in history(tmp_path) for name in row if name.startswith("loss/")} == {f"loss/{n}" for n in ALL}


def test_captions_alone_have_no_answers_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn_files(tmp_path)
    rows = [json.loads(line) for line in Path(data["train"]).read_text().splitlines()]
    Path(data["train"]).write_text("\n".join(json.dumps({k: row[k] for k in ("image", "question")}) for row in rows))
    data = {name: data[name] for name in ("format", "train", "features", "images")}
    assert finetune.main(["--conf", str(nano(tmp_path, data=data, train={"max_steps": 1})), "train"]) == 0
    assert {name for name in history(tmp_path)[0] if name.startswith("loss/")} == {
        f"loss/{n}" for n in ALL - {"answers"}
    }
    only = nano(tmp_path, data=data, train={"losses": "answers"})
    assert finetune.main(["--conf", str(only), "train", "--work_dir", str(tmp_path / "other")]) == 2
    assert "no labels for any of them" in capsys.readouterr().err.splitlines()[-1]
