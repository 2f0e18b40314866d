"""Mixtures of styles, intensities and described styles."""

import pytest
import torch

from models.ofa.mixtures import parse_description, parse_mixture, styles_in, vector_of, with_intensity
from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer

KNOWN = StyleMap.from_styles(["Humorous", "Romantic", "Old-fashioned (Quaint, Dated)", "2*Bold"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.7*Humorous + 0.3*Romantic", {"Humorous": 0.7, "Romantic": 0.3}),
        ("1.5 * humorous", {"Humorous": 1.5}),
        (".5*Humorous-1*romantic", {"Humorous": 0.5, "Romantic": -1.0}),
        ("-1*Humorous", {"Humorous": -1.0}),
        ("1*Humorous + 1*Humorous", {"Humorous": 2.0}),
        ("0.5*Old-fashioned (Quaint, Dated) + 2*Romantic", {"Old-fashioned (Quaint, Dated)": 0.5, "Romantic": 2.0}),
        ("0.5*2*Bold", {"2*Bold": 0.5}),
        ("2*Bold", None),  # a style of that name
        ("Humorous", None),
        ("Odd", None),
    ],
)
def test_formulas(text, expected):
    assert parse_mixture(text, KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("0.5*Humorus", "did you mean Humorous"), ("0.5*", "names no style"), ("1*Humorous + 2*", "names no style")],
)
def test_broken_formulas(text, message):
    with pytest.raises(ValueError, match=message):
        parse_mixture(text, KNOWN)


def test_descriptions():
    assert parse_description("Description: dark and gloomy ", KNOWN) == "dark and gloomy"
    assert parse_description("dark", KNOWN) is None
    with pytest.raises(ValueError, match="has no words"):
        parse_description("description: ", KNOWN)


def test_intensity_rewrites_requests():
    assert with_intensity("humorous", 1.5, KNOWN) == "1.5*Humorous"
    assert with_intensity("0.5*Humorous - 1*Romantic", 2.0, KNOWN) == "1*Humorous - 2*Romantic"
    assert with_intensity("humorous", 1.0, KNOWN) == "humorous"
    assert with_intensity("description: dark", 2.0, KNOWN) == "description: dark"
    assert parse_mixture(with_intensity("-1*Humorous + 2*Romantic", 2.0, KNOWN), KNOWN) == {
        "Humorous": -2.0,
        "Romantic": 4.0,
    }
    assert styles_in("1*Humorous + 2*romantic", KNOWN) == ["Humorous", "Romantic"]
    assert styles_in("humorous", KNOWN) == ["Humorous"]


def test_vectors_by_hand():
    tokenizer = OFATokenizer.train(["a dark day", "gloomy and dark"] * 3, vocab_size=300, num_codes=5)
    ids = KNOWN.token_ids(tokenizer)
    table = torch.zeros(len(tokenizer), 2)
    for style, numbers in zip(ids, ([4.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.0, 0.0]), strict=True):
        table[ids[style]] = torch.tensor(numbers)
    mean = torch.tensor([1.0, 1.0])

    def vector(text: str) -> torch.Tensor | None:
        return vector_of(text, table, KNOWN, tokenizer)

    torch.testing.assert_close(vector("0.75*Humorous + 0.25*Romantic"), torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(vector("1.5*Humorous"), mean + 1.5 * (torch.tensor([4.0, 0.0]) - mean))
    torch.testing.assert_close(vector("1*Humorous"), torch.tensor([4.0, 0.0]))
    torch.testing.assert_close(vector("0*Humorous"), mean)
    assert vector("Humorous") is None
    words = tokenizer.encode_text(" dark day")
    table[words] = torch.arange(2.0 * len(words)).view(-1, 2)
    torch.testing.assert_close(vector("description: Dark day"), table[words].mean(0))


def test_one_style_has_no_direction():
    known = StyleMap.from_styles(["Plain"])
    tokenizer = OFATokenizer.train(["a day"], vocab_size=300, num_codes=2)
    table = torch.randn(len(tokenizer), 3)
    with pytest.raises(ValueError, match="no direction"):
        vector_of("1.5*Plain", table, known, tokenizer)
