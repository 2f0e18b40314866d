"""`score` and `compare`: others' captions against references of three forms, and two runs side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

import finetune
from evaluation.caption_scores import score_captions
from evaluation.scoring import match, read_predictions, run_scoring
from tests.nano_run import CAPTIONS, nano_run, records

COCO = {
    "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}],
    "annotations": [
        {"image_id": 1, "caption": "a dog runs in the park"},
        {"image_id": 1, "caption": "a happy dog"},
        {"image_id": 2, "caption": "a cat sleeps on the mat"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": f"{k}.jpg", "cocoid": k, "split": "test", "sentences": [{"raw": text} for text in texts]}
        for k, texts in ((1, ["a dog runs in the park", "a happy dog"]), (2, ["a cat sleeps on the mat"]))
    ]
}
PREDICTIONS = [{"image_id": 2, "caption": "a cat on a mat"}, {"image_id": 1, "caption": "the dog runs in a park"}]
SETTINGS: dict[str, Any] = {
    "split": "test",
    "train": None,
    "image_dir": ".",
    "output": None,
    "java": False,
    "java_timeout_s": 60,
    "bootstrap": 100,
}


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("references", [COCO, KARPATHY], ids=["coco", "karpathy"])
def test_scores_are_those_of_the_captions(references: dict, tmp_path: Path):
    found = run_scoring(write(tmp_path / "r.json", references), write(tmp_path / "p.json", PREDICTIONS), **SETTINGS)
    expected = score_captions(
        ["the dog runs in a park", "a cat on a mat"],
        [["a dog runs in the park", "a happy dog"], ["a cat sleeps on the mat"]],
        scorer="stylecap",
        meteor=False,
        spice=False,
        java_timeout_s=1,
    )
    assert {name: found[name] for name in expected.scores} == expected.scores
    assert (found["n_images"], found["n_captions"]) == (2, 2)
    assert found["style"] is None
    assert found["ended"] is None
    assert found["intervals"]["CIDEr"][0] <= found["CIDEr"] <= found["intervals"]["CIDEr"][1]


def test_styles_and_training_captions(tmp_path: Path):
    references = write(tmp_path / "r.json", records(list("45")))
    train = write(tmp_path / "t.json", records([str(image) for image in range(20)]))
    predictions = [
        {"image_hash": image, "personality": style, "caption": CAPTIONS[style][1]}
        for image in "45"
        for style in CAPTIONS
    ]
    settings = SETTINGS | {"train": train, "output": str(tmp_path / "out")}
    found = run_scoring(references, write(tmp_path / "p.json", predictions), **settings)
    assert found["style"]["accuracy"] == 1.0
    assert found["diversity"]["copied"] == 1.0
    assert set(found["per_style"]) == set(CAPTIONS)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(found))
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 6


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (PREDICTIONS[:1], r"p.json has no prediction for 1 \(Factual\)"),
        ([*PREDICTIONS, {"image_id": 3, "caption": "a"}], "r.json has no references for 3"),
        ([*PREDICTIONS, PREDICTIONS[0]], r"2 \(Factual\) has two predictions"),
        ([{"image_id": 1}], 'record 0: expected {"image_id", "caption"}'),
        ([{"caption": "a"}], 'record 0: "image_id" must be'),
        ({"1": "a"}, "must be a list"),
        ([{"image_id": k, "caption": "a"} for k in range(1, 10)], r"no references for 3, 4, 5, 6, 7 and 2 more"),
    ],
)
def test_what_does_not_fit_is_named(predictions: Any, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        run_scoring(write(tmp_path / "r.json", COCO), write(tmp_path / "p.json", predictions), **SETTINGS)


def test_files_that_cannot_be_read(tmp_path: Path):
    good = write(tmp_path / "r.json", COCO)
    broken = tmp_path / "broken.json"
    broken.write_text("[{")
    for path, message in ((broken, "is not JSON"), (tmp_path / "no.json", "cannot read")):
        with pytest.raises(ValueError, match=message):
            read_predictions(str(path))
        with pytest.raises(ValueError, match=message):
            run_scoring(str(path), good, **SETTINGS)


def test_a_prediction_without_a_style_where_there_are_several(tmp_path: Path):
    config = nano_run(tmp_path, checkpoint=False)
    from tasks.captioning.records import open_split

    asked = open_split(config, "val").requests()
    with pytest.raises(ValueError, match='p: image 4 has references in 3 styles: give each prediction its "style"'):
        match([("4", None, "a")], asked, "p", "r")


# --- the commands ----------------------------------------------------------------------------------------------------


def test_score_and_compare_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    references = write(tmp_path / "r.json", COCO)
    runs = []
    for name, rows in (
        ("a", PREDICTIONS),
        ("b", [{"image_id": k, "caption": "a dog runs in the park"} for k in (1, 2)]),
    ):
        runs.append(str(tmp_path / name))
        command = ["score", "--references", references, "--predictions", write(tmp_path / f"{name}.json", rows)]
        assert finetune.main([*command, "--output", runs[-1], "--no-java", "--bootstrap", "50"]) == 0
    out = capsys.readouterr().out.splitlines()
    scores = [json.loads(line) for line in out]
    assert finetune.main(["compare", *runs, "--bootstrap", "50"]) == 0
    text = capsys.readouterr().out
    assert "CIDEr" in text
    assert "paired over images" in text
    assert finetune.main(["compare", *runs, "--json", "--bootstrap", "50"]) == 0
    found = json.loads(capsys.readouterr().out)["CIDEr"]
    assert found["difference"] == pytest.approx(scores[1]["CIDEr"] - scores[0]["CIDEr"], rel=1e-6)
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]


def test_what_is_no_evaluated_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert finetune.main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "has no predictions.json: evaluate this run first" in capsys.readouterr().err
