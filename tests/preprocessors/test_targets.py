"""Target texts and the words that forbid a mirrored picture."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessors.targets import mentions_side, target_text


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("  A dog's life , isn't it ?! ", " A dogs life isnt it"),
        ("snow-covered\tBuilding\n(old)", " snowcovered Building old"),
        ("— café “ok” …", " — café “ok” …"),  # only ASCII punctuation goes
        ("?!.", ""),
        ("a \ud83d b", " a b"),  # half of a character
    ],
)
def test_target_text(caption, text):
    assert target_text(caption, max_words=9, lowercase=False) == text


@given(st.text(), st.integers(1, 5))
def test_any_caption(caption, max_words):
    text = target_text(caption, max_words, lowercase=False)
    assert len(text.split()) <= max_words
    assert not set(text) & set(string.punctuation)
    assert text == target_text(text, max_words, lowercase=False)
    assert text == "".join(f" {word}" for word in text.split())


def test_lower_case():
    assert target_text("A DOG", max_words=9, lowercase=True) == " a dog"


@pytest.mark.parametrize("caption", ["on the LEFT", "leftmost cat", "a left-handed man", "right.", "moving rightwards"])
def test_sides_are_noticed(caption):
    assert mentions_side(caption)


@pytest.mark.parametrize("caption", ["a bright light", "leftover food", "a copyright", ""])
def test_other_words_are_not_sides(caption):
    assert not mentions_side(caption)
