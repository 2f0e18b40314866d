"""Questions as word ids."""

import pytest

from preprocessors.words import PAD, UNKNOWN, Vocabulary, longest, split_words


def test_words_of_a_question() -> None:
    assert split_words("What's the t-shirt's colour, red/blue (or #7)?") == (
        "whats the t shirts colour red blue or 7".split()
    )
    assert split_words("  ?! ") == []
    assert split_words("50% & [x] $3") == ["50%", "&", "[x]", "$3"]


def test_a_vocabulary_has_words_by_first_appearance_after_the_special_ones() -> None:
    vocabulary = Vocabulary.of(["Is it red?", "it is blue"])
    assert vocabulary.words == ("PAD", "UNK", "CLS", "is", "it", "red", "blue")
    assert len(vocabulary) == 7
    assert vocabulary.encode("Is it green, or blue?", 6) == [3, 4, UNKNOWN, UNKNOWN, 6, PAD]
    assert vocabulary.encode("is it red is it", 3) == [3, 4, 5]
    assert vocabulary.encode("", 2) == [PAD, PAD]
    assert Vocabulary(vocabulary.words) == vocabulary


def test_the_share_of_unknown_words() -> None:
    vocabulary = Vocabulary.of(["is it red"])
    assert vocabulary.unknown_share(["is it blue", "it"]) == 0.25
    assert vocabulary.unknown_share([""]) == 0.0


def test_the_longest_question() -> None:
    assert longest(["is it", "is it really red?", ""]) == 4
    assert longest([""]) == longest([]) == 1


def test_words_that_make_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="starts with PAD, UNK, CLS, not with a, b"):
        Vocabulary(("a", "b"))
    with pytest.raises(ValueError, match="'is' twice"):
        Vocabulary(("PAD", "UNK", "CLS", "is", "is"))
