"""VCR from its official files to the leaderboard's: answers, reasons, both, and what a user can get wrong."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finetune
from data.features import FeatureStore
from data.questions import read_questions
from evaluation.vcr_files import read_vcr_shares
from models.visualbert.conversion import load_model
from tests.tasks.answering.nano import nano
from tests.tasks.answering.vcr_made import line, made, stills, write_lines

NETWORK = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 48,
}


def conf(folder: Path, data: dict[str, Any], form: str = "vcr", **sections: Any) -> Path:
    model = {"type": "visualbert", "config": NETWORK, "max_words": 48} | sections.pop("model", {})
    return nano(folder, model=model, data={"format": form} | data, **sections)


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    assert finetune.main([str(argument) for argument in arguments]) == code
    found = capsys.readouterr()
    return found.out.strip() if code == 0 else found.err.splitlines()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the set, a run of the answers and one of the reasons: answers/run and reasons/run."""
    folder = tmp_path_factory.mktemp("vcr")
    data = made(folder)
    for name, form in (("answers", "vcr"), ("reasons", "vcr-rationale")):
        (folder / name).mkdir()
        train = {"max_epochs": 20, "lr": 0.004}
        assert finetune.main(["--conf", str(conf(folder / name, data, form, train=train)), "train"]) == 0
    return folder


def test_answers_and_reasons_are_learnt_and_scored_together(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, reasons = (("--conf", trained / name / "conf.json") for name in ("answers", "reasons"))
    first = json.loads(run(capsys, *answers, "eval"))
    assert first["Q->A"] == first["accuracy"] > 0.6  # a quarter is chance
    assert load_model(trained / "answers" / "run" / "checkpoints" / "best").config.head == "vcr"

    file = Path(run(capsys, *answers, "predict", "--split", "val"))
    assert file.read_text().splitlines()[0] == "annot_id,answer_0,answer_1,answer_2,answer_3"
    alone = json.loads(run(capsys, *reasons, "eval"))
    assert alone["QA->R"] == alone["accuracy"]
    assert "Q->AR" not in alone
    both = json.loads(run(capsys, *reasons, "--set", f"eval.answers_file={file}", "eval"))
    assert (both["Q->A"], both["QA->R"]) == (first["Q->A"], alone["QA->R"])
    assert both["Q->AR"] <= min(both["Q->A"], both["QA->R"])

    whole = run(capsys, *reasons, "--set", f"eval.answers_file={file}", "predict", "--split", "val")
    score = ("score", "--kind", "vcr", "--references", trained / "val.jsonl", "--predictions", whole)
    found = json.loads(run(capsys, *score))
    assert found == {name: pytest.approx(both[name]) for name in ("Q->A", "QA->R", "Q->AR")} | {"questions": 8}


def test_the_leaderboard_s_file_of_a_split_without_labels(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run(capsys, "--conf", trained / "answers" / "conf.json", "predict", "--split", "test")
    reasons = ("--conf", trained / "reasons" / "conf.json", "--set", f"eval.answers_file={file}")
    last = trained / "reasons" / "run" / "checkpoints" / "epoch-20"
    path = Path(run(capsys, *reasons, "predict", "--split", "test", "--checkpoint", last))
    rows = list(csv.reader(path.read_text().splitlines()))
    names = [f"rationale_conditioned_on_a{a}_{choice}" for a in range(4) for choice in range(4)]
    assert rows[0] == ["annot_id", *(f"answer_{choice}" for choice in range(4)), *names]
    assert [row[0] for row in rows[1:]] == [f"test-{number}" for number in range(4)]
    numbers = np.array([row[1:] for row in rows[1:]], float).reshape(4, 5, 4)
    assert numbers.sum(2) == pytest.approx(np.ones((4, 5)), abs=1e-5)
    assert len({tuple(group) for group in numbers[0, 1:]}) > 1  # another answer before them, other shares
    message = run(capsys, *reasons, "eval", "--split", "test", code=2)
    assert "reasons are read after the right answer" in message or "no answer to score" in message


def test_controls_hide_the_question_or_the_picture(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "answers" / "conf.json"
    for control in ("question-only", "image-only", "majority"):
        assert 0 <= json.loads(run(capsys, "--conf", file, "eval", "--control", control))["Q->A"] <= 1
    message = run(capsys, "--conf", file, "predict", "--kind", "vqa", code=2)
    assert "data.format = vcr is not answered in the form of vqa" in message


def test_a_store_of_the_whole_picture_and_its_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folder = made(tmp_path), stills(tmp_path / "images")
    extract = ("features", "vcr", data["val"], "--images", folder, "--tower", "pixels", "--side", 32)
    run(capsys, *extract, "--out", tmp_path / "pixels", "--dtype", "float32")
    regions = FeatureStore(tmp_path / "pixels")["movie/still_2@0.jpg"]
    assert len(regions) == 4
    assert regions.boxes is not None
    assert regions.boxes[1].tolist() == [0, 0, 16, 48]
    bright = regions.features.reshape(4, 3, -1).mean(2)
    assert bright[1:].argmax(1).tolist() == [0, 1, 2]  # each object has a colour of its own
    (folder / "movie" / "still_0@0.json").write_text(json.dumps({"boxes": [], "names": [], "width": 1, "height": 1}))
    message = run(capsys, *extract, "--out", tmp_path / "again", code=2)
    assert "0 boxes and 0 names, but the questions have 3 objects" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": ["Why", [3], "?"]}, "line 1: key 'question' points at object 3, but 'objects' has 3: correct"),
        ({"answer_choices": [["a"]] * 3 + [[[-1]]]}, "key 'answer_choices' points at object -1"),
        ({"answer_label": 4}, "line 1: key 'answer_label' is 4, outside of the 4 choices: correct it: 0 to 3"),
        ({"rationale_choices": [["a"]] * 3}, "key 'rationale_choices' has 3 choices: give 4"),
        ({"question": ["Why", ["0"]]}, r"\['0'\] is neither a word nor object numbers"),
        ({"question": []}, "a text is no list of words"),
    ],
)
def test_a_line_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write_lines(tmp_path / "a.jsonl", [line(0, "a", random.Random(0)) | changes])
    with pytest.raises(ValueError, match=message):
        read_questions("train", format="vcr", questions=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question_id,answer\n1,a\n", "no file of VCR's leaderboard"),
        ("annot_id,answer_0,answer_1,answer_2,answer_3\na,1,0,0,nan\n", "line 2: a probability is no number"),
        ("annot_id,answer_0,answer_1,answer_2,answer_3\na,1,0,0\n", "line 2: 4 values for 5 columns"),
        ("annot_id,answer_0,answer_1,answer_2,answer_3\na,1,0,0,0\na,1,0,0,0\n", "line 3: a is there twice"),
    ],
)
def test_a_leaderboard_s_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vcr_shares(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"type": "lxmert"}}, 'data.format = "vcr" needs model.type = "visualbert"'),
        ({"train": {"loss": "bce"}}, 'set train.loss = "cross-entropy"'),
        ({"eval": {"answers_file": "a.csv"}}, 'eval.answers_file belongs to data.format = "vcr-rationale"'),
    ],
)
def test_what_a_configuration_can_get_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, Any], message: str
) -> None:
    assert message in run(
        capsys, "--conf", conf(tmp_path, {"train": "a", "features": "b"}, **sections), "train", code=2
    )


def test_a_store_of_other_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = made(tmp_path)
    lines = [line(n, "train", random.Random(n)) | {"objects": ["person", "person", "chair", "cup"]} for n in range(8)]
    write_lines(tmp_path / "train.jsonl", lines)
    message = run(capsys, "--conf", conf(tmp_path, data, train={"batch_size": 2}), "train", code=2)
    assert "has 4 regions, but VCR's are the whole picture and its 4 objects" in message
