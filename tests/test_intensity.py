"""`benchmarks.intensity`: what it measures and draws, on a nano run."""

import json
from pathlib import Path

import pytest

from benchmarks import intensity
from tests.models.nano import STYLES
from tests.nano_run import nano_run


def test_a_run_is_measured_over_intensity_and_guidance(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = nano_run(tmp_path, eval={"style_intensity": 3.0})
    run, output = Path(config.work_dir), tmp_path / "out"
    (run / "conf.json").write_text(json.dumps(config.to_dict() | {"work_dir": "where it was trained"}))
    steps = ["--intensity", "0", "1", "--guidance", "0.5", "--images", "1"]
    intensity.main([str(run), *steps, "--output", str(output), "--set", "eval.style_intensity=1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    report = json.loads((output / "steering.json").read_text())
    assert report["intensity"] + report["guidance"] == lines
    assert [row["intensity"] for row in report["intensity"]] == [0, 1]
    assert (report["images"], report["captions"], report["split"]) == (1, len(STYLES), "val")
    assert report["people"] == 100  # of two captions a style
    # At no intensity all styles are one prompt.
    assert report["intensity"][0]["different"] == pytest.approx(100 / len(STYLES), abs=0.1)
    for row in lines:
        assert {"CIDEr", "style", "different"} <= row.keys()
        assert set(row["per_style"]) == set(STYLES)
    drawing = (output / "steering.svg").read_text()
    assert all(title in drawing for title in (*intensity.TITLES.values(), "CIDEr", "asked style is found"))
    assert "font-family" in drawing
    assert not (run / "steering.json").exists()


def test_the_plot_has_room_for_all_panels():
    low = {"CIDEr": 20.0, "style": 30.0, "different": 40.0}
    report = {
        "people": 70.0,
        "intensity": [{"intensity": 1.0, **low}],
        "guidance": [{"guidance": 1.0, **low, "style": 100.0}],
    }
    assert ">100</text>" in intensity.plot(report)


def test_another_task_is_refused(tmp_path: Path):
    (tmp_path / "conf.json").write_text(json.dumps({"task": "visual-question-answering", "data": {"format": "demo"}}))
    with pytest.raises(ValueError, match="is no run of captions"):
        intensity.main([str(tmp_path)])


def test_scores_are_kept_in_hundredths():
    judge = {"accuracy": 0.5, "per_style": {"Dry": 0.25}, "evaluator": {"accuracy": 0.75}}
    metrics = {
        "CIDEr": 0.41239,
        "style": judge | {"sentences": None},
        "diversity": {"different": 1.0},
        "per_style": {"Dry": {"CIDEr": 0.3}},
    }
    of_style = {"Dry": {"CIDEr": 30.0, "style": 25.0}}
    assert intensity.row_of(metrics) == {"CIDEr": 41.2, "style": 50.0, "different": 100.0, "per_style": of_style}
    assert intensity.people(metrics) == 75
    unjudged = metrics | {"style": None}
    assert "style" not in intensity.row_of(unjudged)
    assert intensity.people(unjudged) is None
