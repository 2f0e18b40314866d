"""Contact sheets: pictures with their captions, as one HTML page and as one PNG picture. Pure functions."""

import base64
import html
import io
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Template

from PIL import Image, ImageDraw, ImageFont

from preprocessors.images import load_image


@dataclass(frozen=True)
class Caption:
    """A caption in a style, and where there is one what a person wrote."""

    style: str
    text: str
    reference: str | None = None


@dataclass(frozen=True)
class Card:
    """A picture, by its path, and its captions."""

    image: str
    captions: tuple[Caption, ...]


# --- HTML ------------------------------------------------------------------------------------------------------------

_THUMBNAIL = 480  # pixels of the longer side: sharp on a phone, and some 30 kB
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { color-scheme: light dark; --page: #f4f3f0; --card: #fff; --text: #1d1d1f; --quiet: #6b6b70; --accent: #9a4b1f }
@media (prefers-color-scheme: dark) {
  :root { --page: #161617; --card: #232325; --text: #ececee; --quiet: #9c9ca3; --accent: #f0a878 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.4 system-ui, sans-serif }
h1 { font-size: 1.2rem; margin: .2rem 0 1rem }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)) }
figure { margin: 0; background: var(--card); border-radius: .6rem; overflow: hidden }
img { display: block; width: 100%; height: auto }
figcaption { padding: .6rem .9rem .9rem }
dl, dd { margin: 0; overflow-wrap: anywhere }
dt { margin-top: .5rem; color: var(--accent); font-size: .8rem; font-weight: 600 }
.reference { color: var(--quiet); font-size: .85rem; font-style: italic }
</style>
</head>
<body>
<h1>$title</h1>
<main>
$cards
</main>
</body>
</html>
""")


def html_sheet(cards: Sequence[Card], title: str) -> str:
    """A page that needs nothing beside itself: the pictures are inside, scaled down.

    It follows the reader's light or dark setting and has as many columns as fit. Raises ValueError, naming the file,
    for a picture that cannot be read.
    """
    body = "\n".join(_html_card(card, number) for number, card in enumerate(cards, start=1))
    return _PAGE.substitute(title=html.escape(title), cards=body)


def embedded_picture(path: str) -> tuple[str, int, int]:
    """A picture scaled down as a data URI, its width and height. ValueError, naming the file, if it cannot be read."""
    picture = load_image(path, draft_size=_THUMBNAIL)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{data}", picture.width, picture.height


def _html_card(card: Card, number: int) -> str:
    source, width, height = embedded_picture(card.image)
    rows = []
    for caption in card.captions:
        rows.append(f"<dt>{html.escape(caption.style)}</dt><dd>{html.escape(caption.text)}</dd>")
        if caption.reference is not None:
            rows.append(f'<dd class="reference">{html.escape(caption.reference)}</dd>')
    size = f'width="{width}" height="{height}"'
    return (
        f'<figure><img alt="picture {number}" {size} src="{source}">\n'
        f"<figcaption><dl>{''.join(rows)}</dl></figcaption></figure>"
    )


# --- PNG -------------------------------------------------------------------------------------------------------------

_COLUMNS = 3
_CARD, _GAP, _MARGIN = 360, 20, 14  # pixels: width of a card, space between cards, space inside them
_TALLEST_PICTURE = 480
_TALLEST_SHEET = 20_000  # of a sheet: more is of no use to any viewer
_SIZES = {"style": 14, "text": 18, "reference": 15}
_COLOURS = {
    "page": "#f4f3f0",
    "card": "#ffffff",
    "style": "#9a4b1f",
    "text": "#1d1d1f",
    "reference": "#6b6b70",
}
# Pillow's own font, the one font that is there on every machine, draws ASCII only.
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-"})
_LEADING = 1.3  # line height, in units of the letters' size


def png_sheet(cards: Sequence[Card]) -> Image.Image:
    """The cards side by side in rows of three, on a light ground.

    A sheet that would be absurdly tall ends early and says how many pictures are left out. Raises ValueError, naming
    the file, for a picture that cannot be read.
    """
    fonts = {kind: _font(size) for kind, size in _SIZES.items()}
    columns = max(1, min(_COLUMNS, len(cards)))
    rows: list[list[Image.Image]] = []
    height, shown = _GAP, 0
    for start in range(0, len(cards), columns):
        row = [_png_card(card, fonts) for card in cards[start : start + columns]]
        tallest = max(card.height for card in row)
        if rows and height + tallest + _GAP > _TALLEST_SHEET:
            break
        rows.append(row)
        height += tallest + _GAP
        shown += len(row)
    note = f"and {len(cards) - shown} more" if shown < len(cards) else ""
    width = columns * (_CARD + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height + (2 * _GAP if note else 0)), _COLOURS["page"])
    top = _GAP
    for row in rows:
        for column, card in enumerate(row):
            sheet.paste(card, (_GAP + column * (_CARD + _GAP), top))
        top += max(card.height for card in row) + _GAP
    ImageDraw.Draw(sheet).text((_GAP, top), note, fill=_COLOURS["reference"], font=fonts["text"])
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png_card(card: Card, fonts: dict) -> Image.Image:
    picture = load_image(card.image, draft_size=_CARD)
    scale = min(_CARD / picture.width, _TALLEST_PICTURE / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    lines = [line for caption in card.captions for line in _lines(caption, fonts)]
    height = sum(_line_height(kind) for kind, _ in lines)
    drawn = Image.new("RGB", (_CARD, picture.height + height + 2 * _MARGIN), _COLOURS["card"])
    drawn.paste(picture, ((_CARD - picture.width) // 2, 0))
    draw = ImageDraw.Draw(drawn)
    top = picture.height + _MARGIN
    for kind, text in lines:
        draw.text((_MARGIN, top), text, fill=_COLOURS[kind], font=fonts[kind])
        top += _line_height(kind)
    return drawn


def _lines(caption: Caption, fonts: dict) -> Iterator[tuple[str, str]]:
    """What to draw of a caption, as (kind, line)."""
    parts = {"style": caption.style, "text": caption.text, "reference": caption.reference}
    for kind, text in parts.items():
        if text is not None:
            for line in wrap(_drawable(text), _CARD - 2 * _MARGIN, fonts[kind].getlength):
                yield kind, line
    yield "style", ""  # space before the next style


def _drawable(text: str) -> str:
    """`text` with accents taken off and other letters that cannot be drawn as "?"."""
    letters = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


def _line_height(kind: str) -> int:
    return round(_SIZES[kind] * _LEADING)


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """`text` in lines no wider than `width`, by `measure`; a word that is too wide alone is divided.

    A single character is never divided, however wide. Empty text is one empty line.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if measure(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and measure(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
