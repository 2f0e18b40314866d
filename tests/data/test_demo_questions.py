"""The drawn questions: the regions answer them, the question or the picture alone does not; the same each time."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from data.demo import scenes
from data.demo.asking import RELATIONS, TYPES, ask, objects, relation, sentences
from data.demo.drawing import _PAINT, SIDE, draw
from data.demo.questions import drawn_pairs, drawn_questions, drawn_regions, image_id, render_questions
from data.demo.regions import ATTRIBUTES, OBJECTS, REGIONS, WIDTH, _code, layout
from data.demo.scenes import COLOURS, KINDS, Scene, scene
from data.features import FeatureStore, Regions
from data.pictures import Pictures
from data.questions import Questions, read_questions
from data.questions.doctor import examine
from metrics.answers.nlvr import nlvr2_sentence
from metrics.answers.tables import majority, majority_predictions

SHOWN = Scene("cat", "red", "ball", "blue", "above", "snow")


def test_every_type_is_answered_from_the_scene() -> None:
    rng = random.Random(0)
    for question_type in TYPES:
        for _ in range(200):
            text, answer, answer_type, found = ask(SHOWN, question_type, rng)
            assert found == question_type
            assert answer == _answer(SHOWN, text), text
            assert answer_type == {"count": "number", "yes/no": "yes/no"}.get(question_type, "other")


def _answer(shown: Scene, text: str) -> str:
    """The answer worked out from the words again."""
    words = text.rstrip("?").split()
    colours = dict(objects(shown))
    named = [word for word in words if word in KINDS]
    if words[0] in ("what", "which"):
        return colours[named[0]]
    if text.startswith("how many"):
        return str(sum(kind in words or colour in words for kind, colour in colours.items()))
    if text.startswith(("where is the", "how does")):
        return relation(shown, named[0])
    if text.startswith("is there"):
        return "yes" if colours.get(words[4]) == words[3] else "no"
    if text.startswith("is this"):
        return "yes" if shown.place in words else "no"
    if len(named) == 1:
        return "yes" if colours[named[0]] == words[3] else "no"
    phrase = " ".join(words[3 : words.index(named[1]) - 1])
    right = {"left": "to the left of", "right": "to the right of", "on top": "on top of", "in front": "in front of"}
    name = relation(shown, named[0])
    return "yes" if phrase == right.get(name, name) else "no"


def test_answers_to_a_wording_are_equally_frequent() -> None:
    rng = random.Random(1)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for number in rng.sample(range(26880), 12000):
        for question_type in TYPES:
            text, answer, *_ = ask(scene(number), question_type, rng)
            counts[text][answer] += 1
    for text, found in counts.items():
        if found.total() > 300:
            share = max(found.values()) / found.total()
            fair = {"what": 1 / 6, "which": 1 / 6, "how many": 1 / 3, "is": 1 / 2}
            expected = next((value for start, value in fair.items() if text.startswith(start)), 1 / 8)
            assert share < expected + 0.1, (text, found)


@pytest.fixture(scope="module")
def questions() -> dict[str, Questions]:
    return drawn_questions(700, 3)


def test_neither_the_question_nor_the_picture_tells(questions: dict[str, Questions]) -> None:
    train, held = questions["train"], [*questions["val"], *questions["test"]]
    for key in (lambda question: question.text, lambda question: question.question_type):
        table = majority([q.answer for q in train], [key(q) for q in train])
        guesses = majority_predictions(table, [key(q) for q in held])
        assert sum(guess == q.answer for guess, q in zip(guesses, held, strict=True)) / len(held) < 0.4
    # the answer most frequent about a picture itself, which no model can know
    by_picture: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for question in held:
        by_picture[question.images][question.answer] += 1
    assert sum(max(found.values()) for found in by_picture.values()) / len(held) < 0.4


def test_splits_share_no_picture_and_no_scene(questions: dict[str, Questions]) -> None:
    report = examine(questions)
    assert report.healthy
    assert {name: len(split) for name, split in questions.items()} == {"train": 2400, "val": 200, "test": 200}
    assert set(questions["train"].tally("question_type").values()) == {600}
    assert all(
        len({q.text for q in split if q.images == (image,)}) == 4
        for split in [questions["val"]]
        for image in split.image_ids
    )


def test_the_same_numbers_make_the_same_questions(questions: dict[str, Questions]) -> None:
    again = drawn_questions(700, 3)
    assert all(list(again[name]) == list(split) for name, split in questions.items())
    assert list(drawn_questions(700, 4)["val"]) != list(questions["val"])
    assert list(drawn_pairs(100, 3)["train"]) == list(drawn_pairs(100, 3)["train"])
    first, second = (next(drawn_regions(100, 3)) for _ in range(2))
    assert np.array_equal(first.features, second.features)


def test_regions_are_where_the_objects_are_drawn() -> None:
    for number, shown in enumerate(scenes(60, 5)):
        if shown.subject != "ball" or shown.relation == "front":
            continue
        picture = draw(shown, random.Random(f"image 5 {number}"))
        box, _ = layout(shown, random.Random(f"image 5 {number}"))
        middle = picture.getpixel((round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)))
        assert isinstance(middle, tuple)
        assert np.abs(np.array(middle) - _PAINT[shown.subject_colour]).max() < 20
        assert all(0 <= value <= SIDE for value in box)


def test_the_regions_say_all_that_is_asked() -> None:
    shown = scenes(300, 6)
    right = 0
    for one, regions in zip(shown, drawn_regions(300, 6), strict=True):
        assert regions.features.shape == (REGIONS, WIDTH)
        assert [OBJECTS[row] for row in regions.labels["objects_id"]].count(one.place) == 2
        found = {kind: (colour, box) for kind, colour, box in _seen(regions)}
        (kind, colour), (other, other_colour) = objects(one)
        assert (found[kind][0], found[other][0]) == (colour, other_colour)
        right += _relation(found[kind][1], found[other][1]) == relation(one, kind)
    assert right >= 0.98 * len(shown)


def _seen(regions: Regions) -> list[tuple[str, str, np.ndarray]]:
    """Kind, colour and box of the two objects, by the nearest codes."""
    pairs = [(kind, colour) for kind in KINDS for colour in COLOURS]
    pairs += [(place, half) for place in OBJECTS[len(KINDS) :] for half in ATTRIBUTES[len(COLOURS) :]]
    codes = np.stack([_code(name) + _code(attribute) for name, attribute in pairs])
    nearest = ((regions.features[:, None] - codes) ** 2).sum(-1).argmin(-1)
    return [
        (*pairs[row], box)
        for row, box in zip(nearest, regions.normalised_boxes(), strict=True)
        if pairs[row][0] in KINDS
    ]


def _relation(first: np.ndarray, second: np.ndarray) -> str:
    """From the boxes: a much smaller object is in front, a gap says above."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first, second
    sizes = (y2 - y1) / (v2 - v1)
    if not 0.7 < sizes < 1.4:
        return "in front" if sizes < 1 else "behind"
    if abs((x1 + x2) - (u1 + u2)) > abs((y1 + y2) - (v1 + v2)):
        return "left" if x1 < u1 else "right"
    gap = max(v1 - y2, y1 - v2)
    if gap > 0.03:
        return "above" if y1 < v1 else "below"
    return "on top" if y1 < v1 else "under"


def test_pairs_are_true_of_both_or_of_one() -> None:
    shown = {image_id(7, number): one for number, one in enumerate(scenes(300, 7))}
    pairs = drawn_pairs(300, 7, 2)
    assert examine(pairs).healthy
    for split in pairs.values():
        assert split.tally("answer")["True"] == split.tally("answer")["False"] > 0
        for question in split:
            said = [
                question.text in [one for sort in sentences(shown[image]) for one in sort] for image in question.images
            ]
            assert sum(said) == (2 if question.answer == "True" else 1), question
    ids = [str(question.question_id) for question in pairs["train"]]
    assert len(set(ids)) == len(ids) == 2 * 2 * 258
    assert max(Counter(map(nlvr2_sentence, ids)).values()) == 4
    left_only = [question for question in pairs["train"] if question.answer == "False"]
    left = sum(q.text in [one for sort in sentences(shown[q.images[0]]) for one in sort] for q in left_only)
    assert 0.4 < left / len(left_only) < 0.6


def test_written_once_and_read_back(tmp_path: Path) -> None:
    render_questions(tmp_path, images=42, seed=2, pairs=1)
    made = (tmp_path / "regions/store.json").stat().st_mtime_ns
    render_questions(tmp_path, images=42, seed=2, pairs=1)
    assert (tmp_path / "regions/store.json").stat().st_mtime_ns == made
    store, pictures = FeatureStore(tmp_path / "regions"), Pictures(tmp_path / "images")
    for name, expected in drawn_questions(42, 2).items():
        read = read_questions(name, format="plain", questions=tmp_path / f"questions_{name}.jsonl")
        assert list(read) == list(expected)
        assert not store.missing(read.image_ids)
        assert all(image in pictures for image in read.image_ids)
        pairs = read_questions(name, format="lxmert-nlvr2", questions=tmp_path / f"pairs_{name}.json")
        assert list(pairs) == list(drawn_pairs(42, 2)[name])
    render_questions(tmp_path, images=42, seed=3, pictures=False)
    assert (tmp_path / "regions/store.json").stat().st_mtime_ns > made
    with pytest.raises(ValueError, match="0 questions and 0 pairs a picture"):
        render_questions(tmp_path, images=42, seed=2, per_image=0)


def test_relations_have_eight_names() -> None:
    assert len(RELATIONS) == 8
