"""Contact sheets hold every picture and caption, safely and within their cards."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from report import contact_sheet
from report.contact_sheet import Caption, Card, html_sheet, png_sheet, wrap


@pytest.fixture
def cards(tmp_path: Path) -> list[Card]:
    """A wide red, a tall green and a small blue picture."""
    found = []
    for name, size, colour in (("a", (900, 300), "red"), ("b", (200, 1200), "lime"), ("c", (20, 20), "blue")):
        Image.new("RGB", size, colour).save(tmp_path / f"{name}.png")
        captions = (Caption("Sweet", f"a {colour} picture"), Caption("Cynical", "oh <b>no</b> & so on", "it's fine"))
        found.append(Card(str(tmp_path / f"{name}.png"), captions))
    return found


class Reader(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[Image.Image] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        source = dict(attrs).get("src")
        if source:
            data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
            self.pictures.append(Image.open(io.BytesIO(data)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_pictures_and_captions_as_they_are(cards: list[Card]) -> None:
    reader = Reader(html_sheet(cards, "A <sheet>"))
    assert [picture.size for picture in reader.pictures] == [(480, 160), (80, 480), (20, 20)]
    assert reader.pictures[0].getpixel((5, 5))[0] > 250  # type: ignore[index]
    for text in ("A <sheet>", "a lime picture", "oh <b>no</b> & so on", "it's fine", "Cynical"):
        assert text in reader.texts
    assert "b" not in reader.tags


def test_the_page_needs_nothing_else_and_suits_phones_and_the_dark(cards: list[Card]) -> None:
    page = html_sheet(cards, "sheet")
    assert not re.search(r"https?:|url\(|<script|<link", page)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "prefers-color-scheme: dark" in page


def test_the_picture_shows_every_card(cards: list[Card]) -> None:
    sheet = png_sheet(cards)
    assert sheet.width == 3 * 380 + 20
    # Each picture's colour in the middle of its card's top.
    assert [sheet.getpixel((200 + 380 * i, 30)) for i in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    # Beneath the wide picture, 120 pixels high, stands text darker than the card; right of it is margin.
    words = sheet.crop((20, 150, 380, 300)).convert("L")
    assert words.getextrema()[0] < 60  # type: ignore[operator]
    assert words.crop((346, 0, 360, 150)).getextrema() == (255, 255)


def test_captions_of_any_length_stay_inside_the_card(cards: list[Card]) -> None:
    long = Card(cards[0].image, (Caption("Sweet", "word " * 60 + "x" * 200),))
    sheet = png_sheet([long])
    assert sheet.height > png_sheet(cards[:1]).height
    right = sheet.crop((380 - 13, 150, 380, sheet.height - 20)).convert("L")
    assert right.getextrema() == (255, 255)


def test_letters_that_the_font_lacks_are_replaced(cards: list[Card]) -> None:
    accented, plain = (
        png_sheet([Card(cards[2].image, (Caption("Sweet", text),))])
        for text in ("“Café” – naïve…", '"Cafe" - naive...')
    )
    assert accented.tobytes() == plain.tobytes()


def test_a_sheet_that_would_be_too_tall_says_what_is_left_out(
    cards: list[Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = png_sheet(cards * 3)
    monkeypatch.setattr(contact_sheet, "_TALLEST_SHEET", whole.height - 1)
    cut = png_sheet(cards * 3)
    assert cut.height < whole.height
    note = cut.crop((0, cut.height - 40, cut.width, cut.height)).convert("L")
    assert note.getextrema()[0] < 150  # type: ignore[operator]


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    card = Card(str(tmp_path / "gone.jpg"), (Caption("Sweet", "x"),))
    for draw in (lambda: html_sheet([card], "t"), lambda: png_sheet([card])):
        with pytest.raises(ValueError, match="gone.jpg does not exist"):
            draw()


@given(text=st.text(alphabet="ab cd", max_size=60), width=st.integers(1, 12))
def test_wrapping_keeps_the_words_and_the_width(text: str, width: int) -> None:
    lines = wrap(text, width, len)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(len(word) <= width for word in text.split()):
        assert " ".join(lines).split() == text.split()


def test_wrapping_fills_lines() -> None:
    assert wrap("a bb ccc dddd", 4, len) == ["a bb", "ccc", "dddd"]
    assert wrap("abcdefgh i", 3, len) == ["abc", "def", "gh", "i"]
    assert wrap("", 3, len) == [""]
