"""Pythia's imdb files, whose pickles are not run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.questions.imdb import imdb_records, read_imdb

MARK = "code-ran"


class Evil:
    def __reduce__(self):
        return os.mkdir, (MARK,)


def save(path: Path, *values: Any) -> Path:
    array = np.empty(len(values), object)
    array[:] = values
    np.save(path, array, allow_pickle=True)
    return path


def question(number: int, **changes: Any) -> dict[str, Any]:
    base = {"question_id": number, "image_name": f"COCO_{number}", "question_str": "Why?", "question_tokens": ["why"]}
    return base | changes


def test_questions_with_and_without_answers(tmp_path):
    valid = ["red", "blue", "blue", "<unk>", "<unk>", "<unk>"]
    path = save(
        tmp_path / "a.npy",
        {"version": 1},
        question(1, all_answers=["red", "blue", "blue", "x", "y", "z"], valid_answers=valid),
        question(2, all_answers=["x"], valid_answers=["<unk>"]),
        question(3),
    )

    header, rows = imdb_records(path)
    first, second, third = read_imdb(path)

    assert header == {"version": 1}
    assert rows[2] == question(3)
    assert (first.question_id, first.images, first.text, first.answer) == (1, ("COCO_1",), "Why?", "blue")
    assert first.answers == ("red", "blue", "blue", "x", "y", "z")
    assert first.extra == {"question_tokens": ["why"], "valid_answers": valid}
    assert (second.answer, second.answers, second.extra["valid_answers"]) == ("", ("x",), ["<unk>"])
    assert (third.answer, third.answers) == ("", ())


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ValueError, match="could run code"):
        imdb_records(save(tmp_path / "a.npy", {}, question(1, extra=Evil())))

    assert not Path(MARK).exists()


def test_other_files_are_named(tmp_path):
    np.save(tmp_path / "numbers.npy", np.ones((2, 2)))

    with pytest.raises(ValueError, match=r"numbers\.npy: no imdb file"):
        imdb_records(tmp_path / "numbers.npy")
    with pytest.raises(ValueError, match=r"a\.npy: record 1 has no image_name, question_str"):
        imdb_records(save(tmp_path / "a.npy", {}, {"question_id": 1}))
