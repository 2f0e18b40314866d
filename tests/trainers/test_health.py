"""What goes wrong in a run is said once, kept, and shown in its report."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data.files import write_json
from metrics.style import likeness, likeness_of_styles
from report.page import write_report
from tasks.captioning.task import TASK
from trainers.health import VarietyWatch, Warnings, fall_of_variety
from trainers.scst_logs import HealthCheck, HealthWatch, variety_logs
from trainers.step_rows import read_rows

HEALTHY = {"zero_spread": 0.1, "ended": 1.0, "length": 10.0, "entropy": 1.0, "different": 0.9, "style_likeness": 0.5}


def test_likeness_is_the_share_of_common_words():
    # "a" and "dog" are 1/3 each of the words of the first, 1/4 each of those of the second.
    assert likeness(["a dog runs"], ["a dog sleeps well"]) == pytest.approx(0.5)
    assert likeness(["a dog", "runs"], ["runs a dog"]) == pytest.approx(1)
    assert likeness(["a a a b"], ["a c"]) == pytest.approx(0.5)
    assert (likeness(["a"], ["b"]), likeness([""], ["b"]), likeness([""], [""])) == (0, 0, 1)


def test_likeness_of_the_styles_of_an_image():
    images, styles = ["1", "1", "1", "2", "3", "3"], ["Dry", "Sweet", "Dry", "Dry", "Dry", "Dry"]
    captions = [["a dog"], ["a cat"], ["a cat"], ["a dog"], ["x"], ["y"]]
    # Image 1: Dry says a, dog, a, cat; Sweet a, cat. Images 2 and 3 have one style.
    assert likeness_of_styles(images, styles, captions) == [pytest.approx(0.5 + 0.25)]
    assert likeness_of_styles(["2"], ["Dry"], [["a dog"]]) == []


def test_what_step_2_logs_of_its_candidates():
    captions = [["a", "a"], ["a", "b"], ["c", "b"]]
    logs = variety_logs(["1", "1", "2"], ["Dry", "Sweet", "Dry"], captions)
    # First ones: a, a, c; second ones: a, b, b.
    assert (float(logs["different"][0]), logs["different"][1]) == (4, 6)
    assert (float(logs["style_likeness"][0]), logs["style_likeness"][1]) == (pytest.approx(0.5), 1)
    assert "style_likeness" not in variety_logs(["1", "2"], ["Dry", "Dry"], [["a"], ["b"]])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("style_likeness", 0.7, "share 70% of their words, and first 50%"), ("different", 0.6, "60% of the candidates")],
)
def test_candidates_that_grow_alike_are_told_once(name: str, value: float, words: str):
    check = HealthCheck(window=2)
    said = [text for _ in range(4) for text in check.update(HEALTHY)]
    assert said == []
    assert [text for _ in range(2) for text in check.update(HEALTHY | {name: (value + HEALTHY[name]) / 2})] == []
    said = [text for _ in range(6) for text in check.update(HEALTHY | {name: value})]
    assert len(said) == 1
    assert words in said[0]


def test_updates_without_two_styles_of_an_image_do_not_count_as_unlike():
    check = HealthCheck(window=2)
    without = {name: value for name, value in HEALTHY.items() if name != "style_likeness"}
    for logs in (HEALTHY, without):
        check.update(logs)
    assert check.state()["first"]["style_likeness"] == 0.5
    again = HealthCheck(window=2)
    again.resume(json.loads(json.dumps(check.state())))
    assert [text for _ in range(4) for text in again.update(without)] == []


def test_a_fall_of_variety():
    assert fall_of_variety(0.6, 0.8) is None
    text = fall_of_variety(0.07, 0.8)
    assert text is not None
    assert text.startswith("7% of the captions of the validation are different, and 80% were")


def at(step: int) -> Any:
    return SimpleNamespace(step=step, epoch=0, max_steps=99)


def validated(watch: VarietyWatch, *shares: float) -> None:
    for number, share in enumerate(shares, start=1):
        watch.validated(at(100 * number), {"val/CIDEr": 1.0, "val/different": share})


def test_validations_that_say_less_and_less_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "warnings.jsonl"
    watch = VarietyWatch(Warnings(file))
    watch.run_begins(at(0))
    watch.validated(at(50), {"val/accuracy": 1.0})  # of a task that has no captions
    with caplog.at_level(logging.WARNING, logger="stylecap"):
        validated(watch, 0.1, 0.8, 0.7, 0.5, 0.2)
    assert [row["step"] for row in read_rows(file)] == [400]
    assert [record.message for record in caplog.records] == [f"step 400: {read_rows(file)[0]['warning']}"]
    resumed = VarietyWatch(Warnings(file))
    resumed.resume(json.loads(json.dumps(watch.state())))
    resumed.run_begins(at(500))
    validated(resumed, 0.1)
    assert len(read_rows(file)) == 1
    earlier = VarietyWatch(Warnings(file))
    earlier.resume({})
    earlier.run_begins(at(300))  # from before the fall
    assert read_rows(file) == []
    validated(earlier, 0.8, 0.1)
    assert [row["step"] for row in read_rows(file)] == [200]


def test_warnings_stand_in_the_report(tmp_path: Path):
    watch = HealthWatch(Warnings(tmp_path / "warnings.jsonl"))
    watch.check = HealthCheck(window=1)
    watch.run_begins(at(0))
    for step, logs in enumerate((HEALTHY, HEALTHY | {"style_likeness": 0.9}, {"skipped": 1.0})):
        watch.update_ended(at(step), logs)
    row = {"image_id": "1", "style": "Dry", "caption": "a dog", "scores": {"CIDEr": 1.0}}
    write_json(tmp_path / "predictions.json", [row])
    write_json(tmp_path / "metrics.json", {"CIDEr": 1.0, "per_style": {}})
    page = write_report([str(tmp_path)], captions=1, replicates=5, describe=TASK.card).read_text()
    assert "step 2</td>" in page
    assert "share 90% of their words, and first 50%" in page
    (tmp_path / "warnings.jsonl").unlink()
    assert "Warnings" not in write_report([str(tmp_path)], replicates=5, describe=TASK.card).read_text()
