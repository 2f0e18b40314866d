"""Drawn pictures in the form of SHAPES: what queries mean and how they are worded."""

import random
from pathlib import Path

import numpy as np
import pytest

from data.demo.shapes import COLOURS, SHAPES, STEPS, drawn, holds, layout, queries, render, scene, words
from data.pictures import Pictures
from data.questions import read_questions
from tests.conftest import SHARED, needs_shared

# a red circle over a blue square in the left column, a green circle right of the square
SCENE = {(1, 0): ("circle", "red"), (2, 0): ("square", "blue"), (2, 1): ("circle", "green")}


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (("red", (), "circle"), True),
        (("red", (), "square"), False),
        (("red", ("above",), "square"), True),
        (("square", ("above",), "red"), False),
        (("green", ("right_of",), "blue"), True),
        (("green", ("right_of",), "red"), False),  # one row lower
        (("red", ("above", "left_of"), "green"), True),  # above what is left of green
        (("blue", ("above", "below"), "square"), False),  # what is below the square is outside
        (("blue", ("below", "above"), "square"), True),
    ],
)
def test_what_queries_mean(query: tuple[str, tuple[str, ...], str], answer: bool) -> None:
    assert holds(query, SCENE) == answer


@pytest.mark.parametrize(
    ("query", "text", "expression"),
    [
        (("red", (), "red"), "is a red shape red", "(is red red)"),
        (("square", (), "circle"), "is a square a circle", "(is square circle)"),
        (
            ("circle", ("left_of", "above"), "blue"),
            "is a circle left of above a blue shape",
            "(is circle (left_of (above blue)))",
        ),
    ],
)
def test_how_queries_are_worded(query: tuple[str, tuple[str, ...], str], text: str, expression: str) -> None:
    assert (words(query), layout(query)) == (text, expression)


def test_a_picture_shows_its_scene() -> None:
    pixels = drawn(SCENE, random.Random(1))
    assert pixels.shape == (30, 30, 3)
    for (row, column), (_, colour) in SCENE.items():
        place = pixels[10 * row : 10 * row + 10, 10 * column : 10 * column + 10].sum((0, 1))
        assert place.argmax() == ("blue", "green", "red").index(colour)
    assert not pixels[:10].any()


def test_a_file_leaves_out_queries_and_is_read_with_shared_pictures(tmp_path: Path) -> None:
    known = [words(query) for query in queries()]
    assert len(known) == len(set(known)) == (len(SHAPES) + len(COLOURS)) ** 2 * (1 + 4 + 16)
    np.savez(tmp_path / "val.npz", query=np.array(known[: len(known) // 2]))
    render(tmp_path / "a.npz", pictures=3, seed=1, without=[tmp_path / "val.npz"])
    found = read_questions("train", format="shapes", questions=tmp_path / "a.npz")
    assert len(found) == 24
    assert found.image_ids == ("a-0", "a-1", "a-2")
    assert not {one.text for one in found} & set(known[: len(known) // 2])
    assert 6 <= sum(one.answer == "true" for one in found) <= 18
    assert Pictures(tmp_path / "a.npz").open("a-2").size == (30, 30)
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(ValueError, match="no array 'query'"):
        render(tmp_path / "b.npz", pictures=1, seed=1, without=[tmp_path / "other.npz"])


@needs_shared
def test_the_words_are_those_of_shapes() -> None:
    known = {layout(query): words(query) for query in queries()}
    for name in ("train_small", "val"):
        content = np.load(SHARED / "data" / "shapes" / f"{name}.npz")
        assert {known[one] for one in content["layout"].tolist()} == set(content["query"].tolist())


def test_scenes_differ_and_repeat_with_their_seed() -> None:
    assert scene(random.Random(1)) == scene(random.Random(1)) != scene(random.Random(2))
    assert set(STEPS) == {"above", "below", "left_of", "right_of"}
