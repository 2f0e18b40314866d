"""Contact sheets hold every picture and caption, safely and within their cards."""

import base64
import io
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from report.card import Card
from report.contact_sheet import html_sheet


@pytest.fixture
def cards(tmp_path: Path) -> list[Card]:
    """A wide red, a tall green and a small blue picture."""
    found = []
    for name, size, colour in (("a", (900, 300), "red"), ("b", (200, 1200), "lime"), ("c", (20, 20), "blue")):
        Image.new("RGB", size, colour).save(tmp_path / f"{name}.png")
        path = str(tmp_path / f"{name}.png")
        found.append(Card(path, "Sweet", f"a {colour} picture"))
        found.append(Card(path, "Cynical", "oh <b>no</b> & so on", ["it's fine"]))
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


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone.jpg does not exist"):
        html_sheet([Card(str(tmp_path / "gone.jpg"), "Sweet", "x")], "t")


def test_a_picture_in_a_zip_file_is_shown(tmp_path: Path, cards: list[Card]) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as target:
        target.write(tmp_path / "a.png", "a.png")
    packed = Card(str(tmp_path / "all.zip" / "a.png"), "Sweet", "x")
    [shown] = re.findall(r'src="([^"]+)"', html_sheet([packed], "t"))
    assert shown == re.findall(r'src="([^"]+)"', html_sheet(cards, "t"))[0]
    with pytest.raises(ValueError, match="no picture 'b.png'"):
        html_sheet([Card(str(tmp_path / "all.zip" / "b.png"), "Sweet", "x")], "t")
