"""Pictures of demo scenes: flat shapes with outlines on painted backgrounds."""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from data.demo.scenes import Scene

SIDE = 96  # pixels of the finished picture
_SCALE = 2  # drawn larger and averaged down, which smooths the edges
_CANVAS = SIDE * _SCALE

Colour = tuple[int, int, int]
Point = tuple[float, float]
_OUTLINE: Colour = (30, 25, 35)
_PAINT: dict[str, Colour] = {
    "blue": (40, 80, 225),
    "green": (30, 155, 50),
    "purple": (145, 45, 185),
    "red": (220, 35, 35),
    "white": (245, 245, 245),
    "yellow": (250, 210, 30),
}
# Upper and lower colour of the background; muted, so that no object disappears in it.
_GROUND: dict[str, tuple[Colour, Colour]] = {
    "beach": ((150, 205, 225), (225, 200, 150)),
    "meadow": ((185, 220, 240), (150, 200, 130)),
    "night": ((25, 30, 70), (55, 55, 85)),
    "snow": ((195, 205, 215), (225, 230, 235)),
}


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """An RGB picture of SIDE x SIDE pixels; positions, sizes, shades and background vary with `rng`."""
    picture = Image.new("RGB", (_CANVAS, _CANVAS))
    brush = ImageDraw.Draw(picture)
    _background(brush, scene.place, rng)
    subject, other = _positions(scene.relation, rng)
    # The subject last: in front of the other where they overlap.
    _OBJECTS[scene.other](brush, *other, _shade(_PAINT[scene.other_colour], rng, 14))
    _OBJECTS[scene.subject](brush, *subject, _shade(_PAINT[scene.subject_colour], rng, 14))
    return picture.reduce(_SCALE)


def _positions(relation: str, rng: random.Random) -> tuple[tuple[float, float, float], ...]:
    """Centre and radius (x, y, r), in canvas pixels, of the subject and of the other object.

    "on" touches and "above" leaves a clear gap; "front" covers the middle of a larger object.
    """

    def jitter(middle: float, spread: float) -> float:
        return (middle + rng.uniform(-spread, spread)) * _CANVAS

    if relation == "front":
        x, y = jitter(0.5, 0.07), jitter(0.5, 0.07)
        near = (x + jitter(0, 0.05), y + jitter(0.1, 0.03), jitter(0.175, 0.015))
        return near, (x, y, jitter(0.39, 0.03))
    size, other_size = jitter(0.205, 0.02), jitter(0.205, 0.02)
    if relation == "left":
        y = jitter(0.5, 0.2)
        return (jitter(0.26, 0.02), y + jitter(0, 0.06), size), (jitter(0.74, 0.02), y + jitter(0, 0.06), other_size)
    x = jitter(0.5, 0.22)
    if relation == "above":
        return (x + jitter(0, 0.06), jitter(0.23, 0.01), size), (x + jitter(0, 0.06), jitter(0.77, 0.02), other_size)
    # "on": the two bodies meet at the line y.
    y = jitter(0.5, 0.03)
    return (x + jitter(0, 0.03), y - size, size), (x + jitter(0, 0.03), y + other_size, other_size)


def _background(brush: ImageDraw.ImageDraw, place: str, rng: random.Random) -> None:
    upper, lower = (_shade(colour, rng, 10) for colour in _GROUND[place])
    horizon = rng.uniform(0.35, 0.65) * _CANVAS
    brush.rectangle((0, 0, _CANVAS, horizon), fill=upper)
    brush.rectangle((0, horizon, _CANVAS, _CANVAS), fill=lower)
    for _ in range(rng.randint(25, 40)):
        x, y = rng.uniform(0, _CANVAS), rng.uniform(0, _CANVAS)
        if place == "snow":
            brush.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(250, 250, 255))
        elif place == "night":
            brush.point([(x, y * horizon / _CANVAS), (x + 1, y * horizon / _CANVAS)], fill=(230, 230, 200))
        elif y > horizon:
            tone, length = ((185, 160, 110), 2) if place == "beach" else ((105, 165, 85), 8)
            brush.line((x, y, x + 1, y - length), fill=_shade(tone, rng, 15), width=2)


def _shade(colour: Colour, rng: random.Random, spread: int) -> Colour:
    red, green, blue = (min(255, max(0, channel + rng.randint(-spread, spread))) for channel in colour)
    return red, green, blue


def _polygon(brush: ImageDraw.ImageDraw, points: list[Point], fill: Colour) -> None:
    brush.polygon(points, fill=fill, outline=_OUTLINE, width=3)


def _disc(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour, width: int = 3) -> None:
    brush.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=_OUTLINE, width=width)


# Each object fills about the square of half-side r around (x, y), reaching its top and its bottom edge.


def _ball(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    _disc(brush, x, y, r, fill)
    brush.arc((x - 1.7 * r, y - r, x - 0.1 * r, y + r), -62, 62, fill=_OUTLINE, width=3)
    brush.arc((x + 0.1 * r, y - r, x + 1.7 * r, y + r), 118, 242, fill=_OUTLINE, width=3)


def _boat(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    brush.line((x, y - r, x, y + 0.4 * r), fill=_OUTLINE, width=5)
    _polygon(brush, [(x + 0.1 * r, y - r), (x + 0.1 * r, y + 0.2 * r), (x + 0.85 * r, y + 0.2 * r)], fill)
    hull = [(x - r, y + 0.4 * r), (x + r, y + 0.4 * r), (x + 0.6 * r, y + r), (x - 0.6 * r, y + r)]
    _polygon(brush, hull, fill)


def _car(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    cabin = [(x - 0.65 * r, y), (x - 0.4 * r, y - 0.8 * r), (x + 0.4 * r, y - 0.8 * r), (x + 0.65 * r, y)]
    _polygon(brush, cabin, (190, 215, 230))
    brush.rounded_rectangle(
        (x - 1.1 * r, y - 0.1 * r, x + 1.1 * r, y + 0.65 * r), 0.2 * r, fill=fill, outline=_OUTLINE, width=3
    )
    for side in (-0.6, 0.6):
        _disc(brush, x + side * r, y + 0.7 * r, 0.3 * r, (60, 60, 60))


def _cat(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    for side in (-1, 1):
        ear = [(x + side * 0.85 * r, y - r), (x + side * 0.9 * r, y), (x + side * 0.15 * r, y - 0.5 * r)]
        _polygon(brush, ear, fill)
    _disc(brush, x, y + 0.15 * r, 0.85 * r, fill)
    for side in (-1, 1):
        _disc(brush, x + side * 0.35 * r, y, 0.12 * r, _OUTLINE)
        for height in (0.35, 0.55):
            brush.line((x + side * 0.2 * r, y + 0.42 * r, x + side * 1.1 * r, y + height * r), fill=_OUTLINE, width=2)
    _polygon(brush, [(x - 0.12 * r, y + 0.3 * r), (x + 0.12 * r, y + 0.3 * r), (x, y + 0.45 * r)], (230, 150, 160))


def _fish(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    _polygon(brush, [(x + 0.4 * r, y), (x + 1.15 * r, y - 0.7 * r), (x + 1.15 * r, y + 0.7 * r)], fill)
    _polygon(brush, [(x - 0.4 * r, y - 0.5 * r), (x + 0.2 * r, y - r), (x + 0.3 * r, y - 0.4 * r)], fill)
    brush.ellipse((x - 1.15 * r, y - 0.65 * r, x + 0.65 * r, y + r), fill=fill, outline=_OUTLINE, width=3)
    _disc(brush, x - 0.65 * r, y, 0.12 * r, _OUTLINE)


def _house(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    brush.rectangle((x - 0.8 * r, y - 0.1 * r, x + 0.8 * r, y + r), fill=fill, outline=_OUTLINE, width=3)
    _polygon(brush, [(x - r, y - 0.1 * r), (x, y - r), (x + r, y - 0.1 * r)], fill)
    brush.rectangle((x - 0.2 * r, y + 0.4 * r, x + 0.2 * r, y + r), fill=(95, 65, 45), outline=_OUTLINE, width=2)


def _star(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    corners = []
    for k in range(10):
        reach = 1.1 * r if k % 2 == 0 else 0.48 * r
        corners.append((x + reach * math.sin(k * math.pi / 5), y - reach * math.cos(k * math.pi / 5)))
    _polygon(brush, corners, fill)


def _tree(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    brush.rectangle((x - 0.16 * r, y, x + 0.16 * r, y + r), fill=(115, 75, 40), outline=_OUTLINE, width=3)
    for middle, top, half in ((0.25, -0.6, 0.85), (-0.35, -1.0, 0.6)):
        crown = [(x - half * r, y + middle * r + 0.2 * r), (x, y + top * r), (x + half * r, y + middle * r + 0.2 * r)]
        _polygon(brush, crown, fill)


_OBJECTS: dict[str, Callable[[ImageDraw.ImageDraw, float, float, float, Colour], None]] = {
    "ball": _ball,
    "boat": _boat,
    "car": _car,
    "cat": _cat,
    "fish": _fish,
    "house": _house,
    "star": _star,
    "tree": _tree,
}
