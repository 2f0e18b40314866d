"""What clients send, checked: bodies of requests to what a model is asked. No path and no address is ever opened."""

import base64
import binascii
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from PIL import Image, UnidentifiedImageError

from data.images import decode
from serving.systems import AnswerAsk, Answers, CaptionAsk, Captions, LookAsk, System

MAX_PIXELS = 40_000_000
MAX_STYLES = 300
MAX_BEAMS = 20
#: Setting of the search -> its least and greatest value; whole numbers but for the last.
SEARCH: dict[str, tuple[float, float]] = {
    "beam_size": (1, MAX_BEAMS),
    "max_len_b": (1, 64),
    "min_len": (0, 64),
    "no_repeat_ngram_size": (0, 16),
    "length_penalty": (-10.0, 10.0),
}
#: Name in a request -> what guidance calls it.
GUIDANCE = {"style_guidance": "style", "image_guidance": "image"}
INTENSITY = (0.0, 10.0)
_GREATEST_GUIDANCE = 20.0
_LONGEST_STYLE, _LONGEST_CAPTION = 500, 1000
_MORE_THAN_ENOUGH = 2  # a JPEG may be decoded smaller, as for files


class Refused(Exception):
    """A request that cannot be answered: HTTP status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def find_system(systems: Mapping[str, System], model: Any) -> tuple[System, str | None]:
    """The model of that name, and the style where it is written NAME/STYLE; the first one where none is named."""
    if model is None:
        return next(iter(systems.values())), None
    if not isinstance(model, str):
        raise Refused(400, f"model must be a text, one of {', '.join(systems)}")
    if model in systems:
        return systems[model], None
    for name, system in systems.items():
        if model.startswith(f"{name}/"):
            return system, model[len(name) + 1 :]
    near = get_close_matches(model, systems, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(systems)}"
    raise Refused(404, f"no model {model!r}: {hint}")


def caption_ask(system: System, body: Mapping[str, Any], image: Any, styles: Sequence[Any]) -> CaptionAsk:
    """Captions of `image`, a data: URL, in `styles` (none: all), with the settings in `body`."""
    captions = _captions(system)
    if not isinstance(styles, list) or not all(isinstance(style, str) for style in styles) or len(styles) > MAX_STYLES:
        raise Refused(400, f"styles must be a list of at most {MAX_STYLES} names")
    names, asked_for = _styles(captions, styles, body)
    search = {name: number(body, name, *bounds) for name, bounds in SEARCH.items() if body.get(name) is not None}
    if search.get("min_len", 0) > search.get("max_len_b", SEARCH["max_len_b"][1]):
        raise Refused(400, "min_len is above max_len_b: lower it")
    guided = [name for name in GUIDANCE if body.get(name) is not None]
    strengths = {GUIDANCE[name]: number(body, name, -_GREATEST_GUIDANCE, _GREATEST_GUIDANCE) for name in guided}
    if strengths.get("style") and len(captions.styles) < 2:
        raise Refused(400, "style_guidance needs a model of at least two styles: leave it out")
    content = bytes_of(image)
    return CaptionAsk(
        hashlib.sha256(content).hexdigest(),
        captions.prepare(picture_of(content, captions.draft_size)),
        asked_for,
        names,
        tuple(sorted(search.items())),
        tuple(sorted(strengths.items())),
    )


def look_ask(system: System, body: Mapping[str, Any], style: str | None) -> LookAsk:
    """Where a model looks for each word of the caption in `body`; `style` is the one in the model's name."""
    captions = _captions(system)
    given, caption = body.get("style", style), body.get("caption")
    if not isinstance(given, str):
        raise Refused(400, "style must be the name of one style")
    if not isinstance(caption, str) or not caption.strip() or len(caption) > _LONGEST_CAPTION:
        raise Refused(400, f"caption must be a text of 1 to {_LONGEST_CAPTION} characters")
    _, asked_for = _styles(captions, [given], body)
    picture = captions.prepare(picture_of(bytes_of(body.get("image")), captions.draft_size))
    return LookAsk(picture, asked_for[0], caption)


def _captions(system: System) -> Captions:
    if not isinstance(system, Captions):
        raise Refused(400, f"the model {system.name} answers questions: ask it at /v1/answers")
    return system


def _styles(
    system: Captions, styles: Sequence[str], body: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of what is asked for (all, where that is nothing), and the same with the intensity in `body`."""
    if any(len(style) > _LONGEST_STYLE for style in styles):
        raise Refused(400, f"a style has more than {_LONGEST_STYLE} characters: shorten it")
    intensity = number(body, "intensity", *INTENSITY) if body.get("intensity") is not None else 1.0
    try:
        if body.get("adapter") is not None:
            styles = system.of_adapter(text(body, "adapter"), styles)
        names = tuple(dict.fromkeys(system.canonical(style) for style in styles)) or system.styles
        asked_for = tuple(system.strengthened(name, intensity) for name in names)
        if intensity != 1.0:
            for style in asked_for:
                system.check(style)
    except ValueError as error:
        raise Refused(400, str(error)) from None
    return names, asked_for


def answer_ask(system: System, body: Mapping[str, Any], images: Sequence[Any], question: Any) -> AnswerAsk:
    """A question about `images`, data: URLs."""
    if not isinstance(system, Answers):
        raise Refused(400, f"the model {system.name} writes captions: ask it at /v1/captions")
    if not isinstance(question, str) or not question.strip() or len(question) > 1000:
        raise Refused(400, "question must be a text of 1 to 1000 characters")
    if len(images) != system.images:
        raise Refused(400, f"the model {system.name} is asked about {system.images} image(s), not {len(images)}")
    top = int(number(body, "top", 1, 100)) if body.get("top") is not None else 5
    pictures = [system.prepare(picture_of(bytes_of(image), None)) for image in images]
    return AnswerAsk(tuple(pictures), question.strip(), top)


def text(body: Mapping[str, Any], name: str) -> str:
    """A text."""
    if not isinstance(body[name], str):
        raise Refused(400, f"{name} must be a text")
    return str(body[name])


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A number within its bounds; a whole one where these are whole."""
    value, whole = body[name], isinstance(low, int)
    fits = isinstance(value, int) if whole else isinstance(value, int | float) and math.isfinite(value)
    if isinstance(value, bool) or not fits or not low <= value <= high:
        raise Refused(400, f"{name} must be {'a whole' if whole else 'a'} number from {low} to {high}")
    return value if whole else float(value)


def bytes_of(url: Any) -> bytes:
    """The content of a data: URL. Nothing else is an image here: what a client names is not looked for."""
    if not isinstance(url, str):
        raise Refused(400, "the image is missing: send it as a data: URL (data:image/jpeg;base64,...)")
    head, comma, payload = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise Refused(
            400, "an image must be a data: URL (data:image/jpeg;base64,...); addresses and paths are not opened"
        )
    if not head.endswith(";base64"):
        raise Refused(400, "the data: URL must be in base64 (data:image/jpeg;base64,...)")
    try:
        content = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "the image is no valid base64: encode the whole file") from None
    if not content:
        raise Refused(400, "the image is empty: send a file")
    return content


def picture_of(content: bytes, draft_size: int | None) -> Image.Image:
    """The picture in a file's bytes, decoded as files are."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        width, height = MAX_PIXELS, 2  # more than twice what Pillow trusts
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Refused(400, "the image cannot be read: send a JPEG, PNG or WebP file") from None
    if width * height > MAX_PIXELS:
        raise Refused(413, f"the image has more than {MAX_PIXELS // 10**6} million pixels: send a smaller one")
    enough = None if draft_size is None else (_MORE_THAN_ENOUGH * draft_size, _MORE_THAN_ENOUGH * draft_size)
    try:
        return decode(io.BytesIO(content), draft_size=enough)
    except ValueError as error:
        raise Refused(400, f"the image cannot be read ({error}): save it anew") from None
