"""Content, style and variety of runs: the front, the colours of recipes, and what the page shows of both."""

import re
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from report import plots
from report.page import context, write_report
from report.runs import EvaluatedRun, read_runs
from report.trade_offs import front, people_in_style, recipe_of, trade_offs
from tasks.captioning.task import TASK

CONF: dict[str, Any] = {"seed": 7, "work_dir": "a", "train": {"lr": 1e-3}, "model": {"checkpoint": None}}


def made(folder: Path, cider: float, style: float | None, variety: float, **conf: Any) -> Path:
    """A run's folder with these scores; `images` is how many images it captioned."""
    images = conf.pop("images", 2)
    people = {"accuracy": 0.75, "macro_accuracy": 0.75, "calibration_error": 0.1}
    judged = None if style is None else {"accuracy": style, "evaluator": people}
    rows = [
        {"image_id": str(i), "style": "Dry", "caption": f"dog {i}", "scores": {"CIDEr": cider}, "image": None}
        for i in range(images)
    ]
    folder.mkdir(parents=True)
    write_json(folder / "predictions.json", rows)
    metrics = {"CIDEr": cider, "style": judged, "diversity": {"different": variety}, "per_style": {}}
    write_json(folder / "metrics.json", metrics)
    if conf:
        write_json(folder / "conf.json", CONF | conf)
    return folder


def test_the_front_holds_what_nothing_else_beats():
    # In turn: best content; best style; as good as the first but for variety; equal to the second; behind all.
    values = [(5, 1, 9), (3, 4, 2), (5, 1, 8), (3, 4, 2), (2, 1, 1)]
    assert front(values) == [True, True, False, True, False]
    assert front([(1.0,)]) == [True]


def read(*folders: Path) -> list[EvaluatedRun]:
    return read_runs(folders)


def test_runs_stand_with_their_three_scores(tmp_path: Path):
    runs = read(
        made(tmp_path / "s0", 0.5, 0.6, 0.8, seed=0, work_dir="s0"),
        made(tmp_path / "s1", 0.4, 0.5, 0.7, seed=1, work_dir="s1"),
        made(tmp_path / "other", 0.3, 0.9, 0.1, train={"lr": 1e-4}),
    )
    found = trade_offs(runs)
    assert [(one.run, one.recipe, one.front) for one in found] == [
        ("s0", "s0", True),
        ("s1", "s0", False),
        ("other", "other", True),
    ]
    assert (found[0].content, found[0].style, found[0].variety) == pytest.approx((50, 60, 80))
    assert people_in_style(runs) == pytest.approx(75)


def test_runs_that_cannot_be_compared_are_left_out(tmp_path: Path):
    first, second = made(tmp_path / "a", 0.5, 0.6, 0.8), made(tmp_path / "b", 0.4, 0.5, 0.7)
    unjudged = made(tmp_path / "c", 0.4, None, 0.7)
    of_other_images = made(tmp_path / "d", 0.9, 0.9, 0.9, images=3)
    assert [one.run for one in trade_offs(read(first, second, unjudged, of_other_images))] == ["a", "b"]
    assert trade_offs(read(first, unjudged)) == []
    assert people_in_style(read(unjudged)) is None


def test_a_recipe_is_followed_to_the_run_that_it_starts_from(tmp_path: Path):
    starts = [made(tmp_path / f"step1_{seed}", 0.5, 0.6, 0.8, seed=seed) for seed in (0, 1)]
    starts.append(made(tmp_path / "step1_slow", 0.5, 0.6, 0.8, train={"lr": 1e-5}))
    second = [
        made(tmp_path / f"step2_{row}", 0.5, 0.6, 0.8, model={"checkpoint": f"{start}/checkpoints/best"})
        for row, start in enumerate(starts)
    ]
    first, same, slow = map(recipe_of, read(*second))
    assert first == same != slow
    own = made(tmp_path / "own", 0.5, 0.6, 0.8, model={"checkpoint": f"{tmp_path}/own/checkpoints/best"})
    assert recipe_of(read(own)[0])
    plain = read(made(tmp_path / "x", 0.5, 0.6, 0.8), made(tmp_path / "y", 0.5, 0.6, 0.8))
    assert recipe_of(plain[0]) != recipe_of(plain[1])  # nobody knows how those captions were made


def test_the_page_shows_runs_of_one_recipe_alike_and_marks_the_front(tmp_path: Path):
    folders = [
        made(tmp_path / "s0", 0.5, 0.6, 0.8, seed=0),
        made(tmp_path / "s1", 0.4, 0.5, 0.7, seed=1),
        made(tmp_path / "other", 0.3, 0.9, 0.1, train={"lr": 1e-4}),
    ]
    shown = context(read_runs(folders), 1, 5, TASK.card)["trade_offs"]
    (title, style), (_, variety) = shown["plots"]
    assert title == "Content and style"
    assert [colour for _, colour in shown["rows"]] == [plots.COLOURS[row] for row in (0, 0, 1)]
    for svg in (style, variety):
        assert plots.COLOURS[0] in svg
        assert plots.COLOURS[1] in svg
        assert plots.COLOURS[2] not in svg
        assert "fill: none" in re.findall(r"<use[^>]*>", svg)[-2]  # s1 is not at the front
    assert "people" in style
    assert "people" not in variety
    page = write_report([str(one) for one in folders], captions=1, replicates=5, describe=TASK.card).read_text()
    assert page.count("<td>front</td>") == 2
    alone = write_report([str(folders[0])], captions=1, replicates=5, describe=TASK.card).read_text()
    assert "Content, style and variety" not in alone
