"""From a configuration to predictions, metrics and controls, with a model of random weights."""

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from data.samples import Sample
from evaluation.caption_scores import evaluate_captions
from metrics.cider import DocumentFrequency
from tasks.captioning.captioner import Captioner
from tasks.captioning.records import open_split
from tasks.evaluating import find_checkpoint, run_evaluation
from tests.models.nano import STYLES
from tests.nano_run import CAPTIONS, SEARCH, nano_run, records

METRICS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "CIDEr-D", "METEOR", "SPICE"]
PLAIN: dict[str, Any] = {"scorer": "stylecap", "meteor": False, "spice": False, "java_timeout_s": 10}


def read(path: Path):
    return json.loads(path.read_text())


# --- scores ----------------------------------------------------------------------------------------------------------


def two_styles() -> list[Sample]:
    return [
        Sample("1.jpg", "1", "Sweet", "", ("a dog runs in the park", "a happy dog runs")),
        Sample("1.jpg", "1", "Cynical", "", ("yet another dog in the park",)),
        Sample("2.jpg", "2", "Sweet", "", ("a lovely cat sleeps on the mat",)),
        Sample("2.jpg", "2", "Cynical", "", ("the cat will not care",)),
    ]


def test_scores_are_overall_and_per_style() -> None:
    captions = ["a dog runs in the park", "nothing here", "a lovely cat sleeps on the mat", "nor there"]
    scores = evaluate_captions(two_styles(), captions, **PLAIN)
    assert [name for name in scores if name in METRICS] == METRICS
    assert (scores["n_images"], scores["n_captions"]) == (2, 4)
    assert scores["METEOR"] is None
    per_style = scores["per_style"]
    # Every sweet caption is a reference word for word, no cynical one shares a word with one.
    assert per_style["Sweet"]["BLEU-4"] == pytest.approx(1.0)
    assert per_style["Cynical"]["ROUGE-L"] == 0
    assert scores["ROUGE-L"] == pytest.approx(0.5)
    assert 0 < scores["CIDEr"] < per_style["Sweet"]["CIDEr"]


def test_document_frequencies_of_another_corpus_change_cider_d_only() -> None:
    captions = ["a dog runs", "a dog", "a cat sleeps", "the cat"]
    frequency = DocumentFrequency.of([["a dog runs"], ["a dog sits"], ["a bird"], ["the tree"], ["the house"]])
    own = evaluate_captions(two_styles(), captions, **PLAIN)
    other = evaluate_captions(two_styles(), captions, **PLAIN, document_frequency=frequency)
    assert own["CIDEr-D"] == own["CIDEr"] == other["CIDEr"]
    assert other["CIDEr-D"] != other["CIDEr"]


def test_what_cannot_be_had_is_explained_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(logging.getLogger("stylecap"), "propagate", True)
    scores = evaluate_captions(two_styles(), ["a", "b", "c", "d"], **PLAIN | {"meteor": True})
    assert scores["METEOR"] is None
    assert scores["per_style"]["Sweet"]["METEOR"] is None
    assert sum("METEOR" in record.message for record in caplog.records) == 1


# --- a whole evaluation ----------------------------------------------------------------------------------------------


def test_an_evaluation_writes_what_it_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nano_run(tmp_path)
    monkeypatch.setattr(logging.getLogger("stylecap"), "propagate", True)
    with caplog.at_level(logging.INFO, "stylecap"):
        report = run_evaluation(config)
    run = tmp_path / "run"
    assert read(run / "metrics.json") == json.loads(json.dumps(report))
    assert list(report)[: len(METRICS)] == METRICS
    assert (report["split"], report["control"], report["n_images"], report["n_captions"]) == ("val", None, 2, 6)
    assert report["checkpoint"] == str(run / "checkpoints" / "best")
    assert sorted(report["per_style"]) == sorted(STYLES)
    predictions = read(run / "predictions.json")
    assert [(p["image_id"], p["style"]) for p in predictions] == [(i, style) for i in "45" for style in STYLES]
    assert predictions[0]["references"] == ["a lovely red cat on a mat 4", "what a dear dog in the park"]
    captioner = Captioner.from_directory(run / "checkpoints" / "best")
    again = captioner.caption(open_split(config, "val").requests(), batch_size=1, progress=False, **SEARCH)
    assert [p["caption"] for p in predictions] == again
    assert len(set(again)) > 1
    assert "CIDEr-D" in caplog.text
    assert "Humorous" in caplog.text
    assert not list(run.glob(".*.tmp"))


def test_other_splits_and_controls_have_files_of_their_own(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    run_evaluation(config, split="train")
    run_evaluation(config, control="constant")
    run_evaluation(config, split="train", control="constant")
    assert {path.name for path in (tmp_path / "run").glob("*.json")} == {
        f"{kind}{suffix}.json"
        for kind in ("metrics", "predictions")
        for suffix in (".train", ".constant", ".train.constant")
    }


def test_the_three_controls(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    plain = run_evaluation(config)
    found = {name: run_evaluation(config, control=name) for name in ("blank-image", "wrong-style", "constant")}
    said = {
        name: {(p["image_id"], p["style"]): p["caption"] for p in read(tmp_path / "run" / f"predictions{name}.json")}
        for name in ("", ".blank-image", ".wrong-style", ".constant")
    }
    for style, following in zip(STYLES, [*STYLES[1:], STYLES[0]], strict=True):
        for image in "45":
            assert said[".wrong-style"][image, style] == said[""][image, following]
        assert said[".blank-image"]["4", style] == said[".blank-image"]["5", style]
        assert said[".constant"]["4", style] == said[".constant"]["5", style]
    assert said[".blank-image"] != said[""]
    # What is said in the wrong style is held against the references of the style that was asked for.
    wrong = read(tmp_path / "run" / "predictions.wrong-style.json")
    assert all(p["references"][1] == CAPTIONS[p["style"]][1] for p in wrong)
    assert found["constant"]["checkpoint"] is None
    assert found["constant"]["CIDEr"] > plain["CIDEr"]
    assert found["constant"]["control"] == "constant"


def test_cider_d_knows_the_training_captions(tmp_path: Path) -> None:
    report = run_evaluation(nano_run(tmp_path), control="constant")
    assert (tmp_path / "run" / "document_frequency.pkl").exists()
    assert report["CIDEr-D"] != report["CIDEr"]


def test_skip_bad_leaves_out_missing_images(tmp_path: Path) -> None:
    config = nano_run(tmp_path, data={"skip_bad": True})
    (tmp_path / "images" / "4.png").unlink()
    assert run_evaluation(config)["n_images"] == 1


def test_public_weights_are_asked_in_the_configurations_way(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    plain = run_evaluation(config)
    public = (tmp_path / "run" / "checkpoints" / "best").rename(tmp_path / "public")
    (public / "style_map.json").unlink()
    (public / "configuration.json").unlink()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, patch_image_size=64, max_image_size=64))
    report = run_evaluation(config, str(public))
    assert report["checkpoint"] == str(public)
    assert report["n_captions"] == plain["n_captions"]


# --- what a user can get wrong ---------------------------------------------------------------------------------------


def test_a_run_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    config = nano_run(tmp_path, checkpoint=False)
    with pytest.raises(ValueError, match=r"run/checkpoints holds no checkpoint: train first.*--checkpoint"):
        run_evaluation(config)


def test_the_last_checkpoint_serves_where_there_is_no_best(tmp_path: Path) -> None:
    nano_run(tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    (folder / "best").rename(folder / "step-000001")
    (folder / "last").symlink_to("step-000001")
    assert find_checkpoint(str(tmp_path / "run"), None) == (folder / "step-000001").resolve()


def test_a_checkpoint_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no/such/place does not exist"):
        run_evaluation(nano_run(tmp_path, checkpoint=False), "no/such/place")


@pytest.mark.parametrize("fault", ["missing", "broken", "endless pipe"])
def test_an_image_that_cannot_be_read_is_said_in_its_rows_or_is_an_error(tmp_path: Path, fault: str) -> None:
    config = nano_run(tmp_path)
    image = tmp_path / "images" / "5.png"
    content = image.read_bytes()
    image.unlink()
    if fault == "broken":
        image.write_bytes(content[:60])
    elif fault == "endless pipe":
        os.mkfifo(image)
    report = run_evaluation(config)
    assert report["unreadable_images"] == 1
    rows = read(tmp_path / "run" / "predictions.json")
    assert [row["caption"] == "" for row in rows] == ["error" in row for row in rows] == [False] * 3 + [True] * 3
    assert "5.png" in rows[-1]["error"]
    assert rows[-1]["scores"]["CIDEr"] == 0
    strict = dataclasses.replace(config, eval=dataclasses.replace(config.eval, strict=True))
    with pytest.raises(ValueError, match=r"5.png (does not exist|cannot be read).*data.skip_bad"):
        run_evaluation(strict)


def test_where_no_image_can_be_read_the_folder_is_wrong(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    for image in "45":
        (tmp_path / "images" / f"{image}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 2 images can be read: .*4.png cannot be read \(not an image\)"):
        run_evaluation(config)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    (tmp_path / "val.json").write_text("[]")
    with pytest.raises(ValueError, match=r"val.json: .*the split is empty"):
        run_evaluation(config)


def test_a_split_that_is_not_configured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no split "test": set data.test'):
        run_evaluation(nano_run(tmp_path, checkpoint=False), split="test")


def test_a_style_that_the_model_does_not_know_names_the_nearest(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    content = records(["4"])
    for record in content:
        record["personality"] = record["personality"].replace("Sweet", "Sweat")
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="unknown style 'Sweat': did you mean Sweet"):
        run_evaluation(config)


def test_an_unknown_control_names_the_nearest(tmp_path: Path) -> None:
    config = nano_run(tmp_path, checkpoint=False)
    with pytest.raises(ValueError, match="unknown control 'blank': did you mean blank-image"):
        run_evaluation(config, control="blank")
