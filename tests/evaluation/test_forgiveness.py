"""`score`: what it asks for, what it forgives, and what it warns of."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import finetune
from evaluation.caption_scores import score_captions
from evaluation.scoring import run_scoring
from tests.conftest import SHARED, needs_shared

CASES = SHARED / "cases" / "score"
PERSONALITY = [
    {"personality": "Merry", "image_hash": "a", "comment": "what a lovely boat"},
    {"personality": "Old Fashioned", "image_hash": "a", "comment": "a boat as it should be"},
]
SETTINGS: dict[str, Any] = {"split": "test", "train": None, "image_dir": "no/such/folder", "output": None}
SETTINGS |= {"java": False, "java_timeout_s": 60, "bootstrap": 0}
PLAIN: dict[str, Any] = {"scorer": "stylecap", "meteor": False, "spice": False, "java_timeout_s": 1}


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("stylecap"), "propagate", True)
    return caplog


@pytest.mark.parametrize(
    "styles", [("merry", "old fashioned"), ("MERRY", " Old  Fashioned"), ("Merry", "oLD fashioned")]
)
def test_styles_are_forgiven_case_and_blanks(styles: tuple[str, str], tmp_path: Path):
    predictions = [{"image_id": "a", "style": style, "caption": "a boat"} for style in styles]
    references = write(tmp_path / "r.json", PERSONALITY)
    training = [
        one | {"personality": one["personality"].upper(), "image_hash": str(image)}
        for one in PERSONALITY
        for image in range(9)
    ]
    settings = SETTINGS | {"train": write(tmp_path / "t.json", training)}
    found = run_scoring(references, write(tmp_path / "p.json", predictions), **settings)
    assert set(found["per_style"]) == {"Merry", "Old Fashioned"}
    assert found["style"]["evaluator"]["accuracy"] == 1  # which training wrote in capitals
    one_image = write(tmp_path / "u.json", training[:1] + training[9:10])
    found = run_scoring(references, write(tmp_path / "p.json", predictions), **SETTINGS | {"train": one_image})
    assert found["style"] is None or found["style"]["evaluator"]["accuracy"] == 1  # by the half that the image is in


def test_ids_are_forgiven_how_a_program_wrote_them(tmp_path: Path):
    references = write(tmp_path / "r.json", {"annotations": [{"image_id": n, "caption": "a boat"} for n in (1, 2, 3)]})
    predictions = [{"image_id": image, "caption": "a boat"} for image in ("1", 2.0, " 3")]
    assert run_scoring(references, write(tmp_path / "p.json", predictions), **SETTINGS)["BLEU-1"] == pytest.approx(1)


def test_what_either_side_lacks_is_named(tmp_path: Path):
    references = write(tmp_path / "r.json", {str(n): ["a boat"] for n in (1, 2, 3)})
    predictions = write(tmp_path / "p.json", [{"image_id": n, "caption": "a boat"} for n in (3, 4)])
    with pytest.raises(
        ValueError, match=r"p.json has no prediction for 1 .*, 2 .*; \S+r.json has no references for 4:"
    ):
        run_scoring(references, predictions, **SETTINGS)


def test_predictions_a_line_each(tmp_path: Path):
    references = write(tmp_path / "r.json", {"1": ["a boat"], "2": ["a dog"]})
    lines = '{"image_id": 1, "caption": "a boat"}\n{"image_id": 2, "caption": "a dog"}\n'
    (tmp_path / "p.jsonl").write_text(lines)
    assert run_scoring(references, str(tmp_path / "p.jsonl"), **SETTINGS)["BLEU-1"] == pytest.approx(1)


# --- scores that mean nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["一只小船停在码头边", "ネコがマットの上で寝ている", "แมวนอนบนเสื่อ"])
def test_captions_without_spaces_are_told(reference: str, log: pytest.LogCaptureFixture):
    score_captions([reference[:-1]], [[reference]], **PLAIN)
    assert "no spaces between words" in log.text
    assert "Every score is 0" in log.text
    log.clear()
    found = score_captions([reference[:-1]], [[reference]], tokenizer="characters", **PLAIN)
    assert found.scores["BLEU-1"] is not None
    assert found.scores["BLEU-1"] > 0.8
    assert log.text == ""


def test_scores_of_other_images_are_told(log: pytest.LogCaptureFixture):
    score_captions(["a dog", "the cat"], [["boats in rain"], ["some old quay"]], **PLAIN)
    assert "Every score is 0: no caption shares a word" in log.text
    log.clear()
    score_captions(["a dog", "the cat"], [["boats in rain"], ["a cat"]], **PLAIN)
    score_captions(["", ""], [["boats in rain"], ["a cat"]], **PLAIN)  # that is told already
    assert "Every score" not in log.text


def test_english_scorers_are_not_asked_about_characters(log: pytest.LogCaptureFixture):
    found = score_captions(["小船"], [["小船"]], tokenizer="characters", **PLAIN | {"meteor": True, "spice": True})
    assert (found.scores["METEOR"], found.scores["SPICE"]) == (None, None)
    with pytest.raises(ValueError, match="brings its own tokenizer"):
        score_captions(["a"], [["a"]], tokenizer="characters", **PLAIN | {"scorer": "pycocoevalcap"})


# --- the cases that failed -------------------------------------------------------------------------------------------


@needs_shared
def test_the_cases_that_failed(capsys: pytest.CaptureFixture[str]):
    def score(references: str, predictions: str, *more: str) -> dict[str, Any]:
        files = ["--references", str(CASES / references), "--predictions", str(CASES / predictions)]
        assert finetune.main(["score", *files, "--no-java", "--bootstrap", "0", *more]) == 0
        return json.loads(capsys.readouterr().out)

    assert score("refs.json", "style_case.json")["BLEU-1"] > 0.5
    assert score("chinese_refs.json", "chinese_preds.json")["BLEU-1"] < 1e-9
    assert score("chinese_refs.json", "chinese_preds.json", "--tokenizer", "characters")["BLEU-1"] > 0.8
