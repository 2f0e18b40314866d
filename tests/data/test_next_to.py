"""The drawn task that needs local windows."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.demo.next_to import COLOURS, SHAPES, guess_right, next_to, render
from data.features import FeatureStore
from data.questions.plain import read_plain


def test_a_sample_is_what_the_task_says() -> None:
    """One neighbour of X, whose colour is the answer; the rest two or more cells away and of other shapes."""
    samples = next_to(np.random.RandomState(3), 50)
    assert samples.features.shape == (50, 64, 16)
    clear = samples.features.round() > 0  # the noise is a tenth
    for cells, shape, answer in zip(clear, samples.shapes, samples.answers, strict=True):
        taken = np.flatnonzero(cells[:, 14])
        assert len(taken) == 7
        [x] = [cell for cell in taken if cells[cell, shape]]
        apart = np.maximum(abs(taken // 8 - x // 8), abs(taken % 8 - x % 8))
        [neighbour] = taken[apart == 1]
        assert sorted(apart)[:3] == [0, 1, max(2, sorted(apart)[2])]
        assert cells[neighbour, 8 + answer]
        assert cells[:, :8].sum() == cells[:, 8:14].sum() == 7
        assert cells[:, 15].all()


def test_questions_name_the_shape() -> None:
    samples = next_to(np.random.RandomState(3), 4)
    assert samples.questions().tolist() == [[1, 2, 3, 4 + shape, 0] for shape in samples.shapes]


def test_the_same_generator_gives_the_same_samples() -> None:
    one, other = (next_to(np.random.RandomState(5), 3) for _ in range(2))
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.answers, other.answers)


def test_guessing_is_right_in_about_two_of_five() -> None:
    assert guess_right(next_to(np.random.RandomState(1), 1024)) == pytest.approx(0.37, abs=0.04)


def test_the_files_hold_the_samples(tmp_path: Path) -> None:
    render(tmp_path, train=6, val=2, seed=9)
    train = list(read_plain(tmp_path / "train.jsonl"))
    assert [question.images for question in train] == [(f"train{row}",) for row in range(6)]
    samples = next_to(np.random.RandomState([9, 0]), 6)
    assert [question.answer for question in train] == [COLOURS[answer] for answer in samples.answers]
    assert all(SHAPES[shape] in question.text for shape, question in zip(samples.shapes, train, strict=True))
    store = FeatureStore(tmp_path / "features")
    assert np.allclose(store["val1"].features, next_to(np.random.RandomState([9, 1]), 2).features[1], atol=2e-3)
    assert store["train0"].grid == (8, 8)


def test_what_is_there_is_kept_and_what_is_foreign_is_not_touched(tmp_path: Path) -> None:
    render(tmp_path / "a", train=2, val=1, seed=1)
    before = (tmp_path / "a" / "train.jsonl").stat().st_mtime_ns
    render(tmp_path / "a", train=2, val=1, seed=1)
    assert (tmp_path / "a" / "train.jsonl").stat().st_mtime_ns == before
    render(tmp_path / "a", train=3, val=1, seed=1)
    assert len((tmp_path / "a" / "train.jsonl").read_text().splitlines()) == 3
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "train.jsonl").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="would overwrite it"):
        render(tmp_path / "b", train=2, val=1, seed=1)
    with pytest.raises(ValueError, match="at least 1 each"):
        render(tmp_path / "c", train=0, val=1, seed=1)
