"""VCR: names of objects, regions that are used, positions of the words that name them."""

from typing import Any

import pytest

from preprocessors.visualbert.vcr import (
    NAMES,
    choices,
    masked_choice,
    named,
    objects_used,
    pretraining_choices,
    pretraining_row,
)
from tests.preprocessors.visualbert_pieces import Fixed, vocabulary

V = vocabulary()


def item(**changes: Any) -> dict[str, Any]:
    base = {
        "question": ["why", "is", [1], "on", "the", [3], "?"],
        "objects": ["person", "person", "person", "diningtable"],
        "answer_choices": [["he", "says", "that"], [[0], "is", "red"], ["the", [3], "is", "red"], [[1], "says", "a"]],
        "rationale_choices": [["he", "is"], [[1, 0], "is"], ["a", "dog"], ["the", "cat"]],
        "answer_label": 1,
        "rationale_label": 0,
    }
    return base | changes


def texts(made) -> list[str]:
    return [" ".join(V.tokens(choice.text.ids)) for choice in made]


def test_people_get_names_and_objects_their_class():
    words, names = named(["why", [2, 0], "on", [3], "?"], item()["objects"])

    assert words == ["why", "Casey", "Riley", "on", "diningtable", "?"]
    assert names == {2: "Casey", 0: "Riley", 3: "diningtable"}
    assert named([[0], [1]], item()["objects"], names)[0] == ["Riley", "Jessie"]
    # the published rule begins the list anew: person 1 is called as person 2 is
    assert named([[0], [1]], item()["objects"], names, rule="published")[0] == ["Riley", "Casey"]


def test_more_people_than_names():
    objects = ["person"] * 20
    everyone = [list(range(20))]

    ours, published = (named(everyone, objects, rule=rule)[0] for rule in ("mended", "published"))

    assert len(set(ours)) == len(set(NAMES)) == 14
    assert ours.count("Casey") == 2
    assert published[:16] == [*NAMES, "Casey"]


def test_regions_are_the_image_and_what_is_pointed_at():
    assert objects_used(item()) == ([0, 1, 3], [1, 2, -1, 3])
    assert objects_used(item(answer_choices=[["Everyone", "says"]])) == ([0, 1, 2, 3], [1, 2, 3, 4])
    nothing = item(question=["why", "?"], answer_choices=[["he"]], rationale_choices=[["a"]])
    assert objects_used(nothing) == ([0, 1, 2], [1, 2, 3, -1])
    assert objects_used(nothing | {"objects": ["diningtable"]}) == ([], [-1])


def test_four_choices_and_the_right_one():
    made = choices(V, item(), "answer")

    assert texts(made)[1] == "[CLS] why is casey on the din ##ing ##table ? [SEP] riley is red [SEP]"
    assert [choice.correct for choice in made] == [False, True, False, False]
    # the image, person 0 (riley), person 1 (casey), the table
    assert made[1].alignment == [[], [11], [3], [6]]
    assert made[3].alignment == [[], [], [3, 11], [6]]


def test_reasons_come_after_the_right_answer():
    made = choices(V, item(), "rationale")

    assert texts(made)[1] == ("[CLS] why is casey on the din ##ing ##table ? riley is red [SEP] casey riley is [SEP]")
    assert [choice.correct for choice in made] == [True, False, False, False]
    assert made[1].alignment == [[], [10, 15], [3, 14], [6]]


def test_the_published_position_is_the_words_number():
    made = choices(V, item(), "rationale", positions="published")

    # after `din ##ing ##table` a position is two too small
    assert made[1].alignment[1] == [8, 15]
    assert choices(V, item(answer_label=0), "rationale", positions="published")[1].alignment[2] == [3, 14]


def test_what_is_cut_off_is_aligned_with_nothing():
    long = item(question=["why", *["a"] * 20, [1], "?"])

    made = choices(V, long, "answer", limit=12)

    assert all(len(choice.text.ids) <= 12 for choice in made)
    assert made[3].alignment == [[], [], [8], []]
    published = choices(V, long, "answer", limit=28, cut="published")
    assert texts(published)[3].endswith("casey ? [SEP] says a [SEP]")
    assert published[3].alignment[2] == [22]
    with pytest.raises(ValueError, match="a question of 23 word pieces leaves no room"):
        choices(V, long, "answer", limit=26, cut="published")


def test_eight_rows_of_pretraining():
    made = pretraining_choices(V, item())

    assert len(made) == 8
    assert [pretraining_row(row) for row in (0, 7, 8, 19)] == [(0, 0), (0, 7), (1, 0), (2, 3)]
    assert [pretraining_row(row, rule="published") for row in (0, 7, 8, 19)] == [(0, 0), (0, 0), (1, 1), (2, 2)]
    drawn = masked_choice(V, made[0], Fixed(0.0, *[0.5] * 20))
    assert drawn.text.word_labels is not None
    assert drawn.text.word_labels[1] == V.split("why")[0]
    assert drawn.correct is False


def test_a_test_set_says_no_right_answer():
    hidden = item(answer_label=None, rationale_label=None)

    assert [choice.correct for choice in choices(V, hidden, "answer")] == [None] * 4
    with pytest.raises(ValueError, match="has no answer_label: predict it first"):
        choices(V, hidden, "rationale")


def test_an_object_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="v-7 points at object 4, but has 4"):
        choices(V, item(annot_id="v-7", question=["why", [4]]), "answer")
