"""Every command with a nano LXMERT: train, resume, eval, controls, report, predict, score, inference, doctor."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import finetune
from data.demo.questions import drawn_questions
from tests.tasks.answering.nano import drawn_files, nano


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with conf.json and a trained run."""
    folder = tmp_path_factory.mktemp("answering")
    conf = nano(folder)
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=3", "train"]) == 0
    assert finetune.main(["--conf", str(conf), "train", "--resume"]) == 0
    return folder


def test_training_goes_on_where_it_stopped_and_learns(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "run" / "history.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "loss" in row]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    assert sum(losses[-6:]) / 6 < losses[0] - 0.4
    assert any("val/accuracy" in row for row in rows)


def test_a_resumed_run_equals_one_that_was_not_interrupted(trained: Path, tmp_path: Path) -> None:
    assert finetune.main(["--conf", str(nano(tmp_path)), "train"]) == 0
    former, now = (
        json.loads((root / "run" / "history.jsonl").read_text().splitlines()[-2]) for root in (trained, tmp_path)
    )
    assert former["step"] == now["step"]
    assert former["loss"] == pytest.approx(now["loss"], abs=1e-4)


def test_eval_controls_and_report(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = trained / "conf.json"
    scores = json.loads(run(capsys, "--conf", conf, "eval"))
    assert 0 <= scores["accuracy"] <= 1
    assert scores["intervals"]["accuracy"][0] <= scores["accuracy"] <= scores["intervals"]["accuracy"][1]
    assert set(scores["per_question_type"]) == {"colour", "count", "relation", "yes/no"}
    assert sum(number for _, number in scores["per_answer_type"].values()) == scores["n_questions"] == 8
    assert {"calibration_error", "accuracy (yes/no)", "known_answers"} <= set(scores)
    controls = {}
    for name in ("question-only", "image-only", "majority"):
        controls[name] = json.loads(run(capsys, "--conf", conf, "eval", "--control", name))
        assert controls[name]["control"] == name
    assert controls["majority"]["checkpoint"] is None
    assert "did you mean" in error(capsys, "--conf", conf, "eval", "--control", "question")
    page = Path(run(capsys, "report", trained / "run").strip()).read_text()
    for text in ("accuracy (yes/no)", "majority", "image-only", "what color is" if "what color is" in page else "%)"):
        assert text in page
    [row, *_] = json.loads((trained / "run" / "predictions.json").read_text())
    assert len(row["top"]) == 5
    assert row["top"][0][0] == row["answer"]
    assert row["image"].endswith(".jpg")


def error(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert text.startswith("finetune.py: error: ")
    return text


def test_the_majority_is_the_most_frequent_training_answer_of_the_type(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "--conf", trained / "conf.json", "eval", "--control", "majority")
    train = drawn_questions(28, 7)["train"]
    for row in json.loads((trained / "run" / "predictions.majority.json").read_text()):
        same = [one.answer for one in train if one.question_type == row["question_type"]]
        assert same.count(row["answer"]) == max(same.count(answer) for answer in same)
        assert row["top"][0][1] == pytest.approx(same.count(row["answer"]) / len(same), abs=1e-4)


def test_compare_and_results(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "--conf", trained / "conf.json", "eval")
    text = run(capsys, "compare", trained / "run", trained / "run", "--bootstrap", 10)
    assert "accuracy (yes/no)" in text
    [row] = [json.loads(line) for line in run(capsys, "results", trained).splitlines()]
    assert row["conf"]["model"]["type"] == "lxmert"


def test_predict_writes_a_submission_that_score_reads(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run(capsys, "--conf", trained / "conf.json", "predict", "--split", "test").strip())
    answers = json.loads(path.read_text())
    test = drawn_questions(28, 7)["test"]
    assert [one["question_id"] for one in answers] == [one.question_id for one in test]
    given = {one["question_id"]: one["answer"] for one in answers}
    notes = [
        {
            "question_id": one.question_id,
            "answers": [{"answer": given[one.question_id], "answer_id": n} for n in range(10)],
        }
        for one in test
    ]
    (tmp_path / "notes.json").write_text(json.dumps({"annotations": notes}))
    scores = json.loads(
        run(capsys, "score", "--kind", "vqa", "--references", tmp_path / "notes.json", "--predictions", path)
    )
    assert scores["overall"] == 100.0


def test_pages_show_pictures_that_lie_in_a_zip_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn_files(tmp_path)
    packed = shutil.make_archive(str(tmp_path / "pictures"), "zip", data["images"])
    conf = nano(tmp_path, data=data | {"images": packed}, train={"max_steps": 1})
    for command in ("train", "eval"):
        run(capsys, "--conf", conf, command)
    [row, *_] = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert row["image"].startswith(f"{packed}/")
    page = Path(run(capsys, "report", tmp_path / "run").strip()).read_text()
    assert "no picture" not in page
    assert "data:image/jpeg;base64," in page
    asked = Path(row["image"]).stem
    for source in (["--image", asked, "--question", "what color is it?"], ["--random", 2]):
        run(capsys, "--conf", conf, "inference", *source)
        assert "data:image/jpeg;base64," in (tmp_path / "run" / "inference.html").read_text()


def test_inference_on_pictures_requests_and_at_random(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = trained / "conf.json"
    question = drawn_questions(28, 7)["val"][0]
    picture = trained / "run" / "demo_data" / "images" / f"{question.images[0]}.jpg"
    line = run(capsys, "--conf", conf, "inference", "--image", picture, "--question", question.text).strip()
    assert line.split("\t")[:2] == [str(picture), question.text]
    (tmp_path / "r.json").write_text(json.dumps([{"image": question.images[0], "question": question.text}]))
    again = run(capsys, "--conf", conf, "inference", "--json", tmp_path / "r.json", "--output", tmp_path).strip()
    assert again.split("\t")[2] == line.split("\t")[2]
    assert question.text.replace("'", "&#x27;") in (tmp_path / "inference.html").read_text()
    assert len(run(capsys, "--conf", conf, "inference", "--random", 3).splitlines()) == 3
    assert "--question" in error(capsys, "--conf", conf, "inference", "--image", picture)
    assert "--style does not go" in error(capsys, "--conf", conf, "inference", "--image", picture, "--style", "Sweet")
    assert "does not have it" in error(capsys, "--conf", conf, "inference", "--image", "none.jpg", "--question", "x")


def test_the_doctor_finds_no_fault_in_what_is_drawn(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "val: 8 questions about 2 pictures" in run(capsys, "--conf", trained / "conf.json", "doctor")


def test_the_doctor_tells_of_leaks_and_missing_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn_files(tmp_path)
    lines = Path(data["train"]).read_text().splitlines()
    Path(data["val"]).write_text("\n".join([lines[0], lines[1].replace('"image": "', '"image": "x')]))
    conf = nano(tmp_path, data=data)
    text = run(capsys, "--conf", conf, "doctor", code=1)
    assert "LEAK train -> val: 1 shared pictures" in text
    assert "FAULT questions whose picture has no features: 1" in text
    assert "missing feature" in error(capsys, "--conf", conf, "train")
    assert run(capsys, "--conf", conf, "--set", "data.skip_bad=true", "--set", "train.max_steps=1", "train") == ""


def test_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = nano(
        tmp_path, data={"format": "demo-pairs", "demo_images": 280, "demo_questions": 1}, train={"max_steps": 2}
    )
    run(capsys, "--conf", conf, "train")
    scores = json.loads(run(capsys, "--conf", conf, "eval"))
    assert {"accuracy", "consistency"} <= set(scores)
    path = Path(run(capsys, "--conf", conf, "predict", "--split", "val").strip())
    rows = list(csv.reader(path.read_text().splitlines()))
    assert len(rows) == scores["n_questions"]
    assert {row[1] for row in rows} <= {"True", "False"}


@pytest.mark.parametrize("mode", ["ft_same", "ft"])
def test_causal_attention_starts_from_lxmert_and_from_clusters(
    mode: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dictionaries = {"dictionary_words": 8, "dictionary_boxes": 8, "dictionaries": "kmeans", "causal_attention": mode}
    checkpoint = str(trained / "run" / "checkpoints" / "best")
    model = dictionaries | {"checkpoint": checkpoint, "vocabulary": None}
    conf = nano(tmp_path, model=model, train={"max_steps": 1, "optimizer": "bertadam", "schedule": "warmup_linear"})
    run(capsys, "--conf", conf, "train")
    before = json.loads(run(capsys, "--conf", trained / "conf.json", "eval"))
    after = json.loads(run(capsys, "--conf", conf, "eval"))
    # the first update of a warm-up has rate 0, and CATT begins as LXMERT
    assert after["accuracy"] == before["accuracy"]


def test_a_field_holds_out_the_validation_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn_files(tmp_path)
    rows = [json.loads(line) for line in Path(data["train"]).read_text().splitlines()]
    images = sorted({row["image"] for row in rows})
    folded = [json.dumps(row | {"image_fold": images.index(row["image"]) % 4}) for row in rows]
    Path(data["train"]).write_text("\n".join(folded))
    own = {name: value for name, value in data.items() if name not in ("val", "test")}
    conf = nano(tmp_path, data=own | {"held_out": {"image_fold": 3}}, train={"max_steps": 1})
    run(capsys, "--conf", conf, "train")
    scores = json.loads(run(capsys, "--conf", conf, "eval"))
    assert scores["n_images"] == sum(images.index(image) % 4 == 3 for image in images)
    assert "no faults" in run(capsys, "--conf", conf, "doctor")


def test_a_subset_trains_on_the_first_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--conf", nano(tmp_path), "--set", "data.subset=5", "doctor")
    assert "train: 20 questions about 5 pictures" in text
    assert "test: 8 questions about 2 pictures" in text


@pytest.mark.parametrize(("loss", "sees"), [("bce", "question"), ("mce", "image")])
def test_every_loss_and_view_trains(loss: str, sees: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = nano(
        tmp_path, data={"format": "demo", "demo_images": 28, "sees": sees}, train={"loss": loss, "max_steps": 2}
    )
    run(capsys, "--conf", conf, "train")
    assert 0 <= json.loads(run(capsys, "--conf", conf, "eval"))["accuracy"] <= 1


def test_drawings_of_nlvr_train_from_their_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def item(number: int) -> dict[str, Any]:
        return {"type": "circle", "color": "Black", "size": 20, "x_loc": 5 * number, "y_loc": 10}

    for split, numbers in (("train", range(8)), ("dev", range(8, 10))):
        rows = [
            {
                "identifier": f"{n}-0",
                "sentence": "there is a black circle",
                "label": str(n % 2 == 0).lower(),
                "structured_rep": [[item(k) for k in range(1 + n % 3)], [item(1)], [item(2)]],
            }
            for n in numbers
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev")}
    info = json.loads(run(capsys, "features", "nlvr1", *files.values(), "--out", tmp_path / "store"))
    assert (info["images"], info["width"], info["boxes"]) == (60, 12, None)
    data = {"format": "nlvr1", "train": files["train"], "val": files["dev"], "features": str(tmp_path / "store")}
    conf = nano(tmp_path, data=data, train={"max_steps": 1})
    run(capsys, "--conf", conf, "train")
    scores = json.loads(run(capsys, "--conf", conf, "eval"))
    assert scores["n_questions"] == 12
