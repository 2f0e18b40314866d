"""Contact sheets: pictures with what was said of them, as one HTML page. Pure functions."""

import base64
import html
import io
import itertools
from collections.abc import Sequence
from string import Template

from preprocessors.images import load_image
from report.card import Card

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
    groups = itertools.groupby(cards, key=lambda card: card.image)
    body = "\n".join(_figure(image, list(group), number) for number, (image, group) in enumerate(groups, start=1))
    return _PAGE.substitute(title=html.escape(title), cards=body)


def embedded_picture(path: str) -> tuple[str, int, int]:
    """A picture scaled down as a data URI, its width and height. ValueError, naming the file, if it cannot be read."""
    picture = load_image(path, draft_size=_THUMBNAIL)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{data}", picture.width, picture.height


def _figure(image: str | None, cards: Sequence[Card], number: int) -> str:
    """A picture and what was said of it."""
    picture = ""
    if image is not None:
        source, width, height = embedded_picture(image)
        picture = f'<img alt="picture {number}" width="{width}" height="{height}" src="{source}">'
    rows = []
    for card in cards:
        rows.append(f"<dt>{html.escape(card.heading)}</dt><dd>{html.escape(card.text)}</dd>")
        rows += [f'<dd class="reference">{html.escape(reference)}</dd>' for reference in card.references]
    return f"<figure>{picture}\n<figcaption><dl>{''.join(rows)}</dl></figcaption></figure>"
