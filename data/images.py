"""Decoding pictures: one verdict on a file, whoever asks (the doctor, a loader, a report).

- Upright as the EXIF orientation says; a file whose EXIF data are broken is read as it lies.
- Grey of 16 bits is scaled to 8. Numbers of 32 bits, whole or not, are refused: nothing tells their range.
- What is transparent shows white behind it, as a page would.
"""

import math
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

#: Of how pixels are made of a file: raise it when that changes, so that caches of decoded pictures are made anew.
DECODING = 2
_ORIENTATION = 0x0112  # EXIF
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose numbers Pillow may hold in 32 bits, though they have 16


def decode(stream: BinaryIO, *, draft_size: tuple[int, int] | None = None) -> Image.Image:
    """The first picture in a file, whole, in RGB.

    `draft_size`: (width, height) that is enough; a JPEG is then decoded at a fraction of its size, but not below.

    Raises ValueError, with the reason alone, for what is no picture, damaged, of too many pixels, or of numbers that
    have no known range.
    """
    try:
        with Image.open(stream) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise ValueError(f"{image.width} x {image.height} pixels are more than Pillow trusts")
            if draft_size is not None:
                image.draft(image.mode, draft_size)
            return to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ValueError(str(error) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode, upright and in RGB. ValueError for numbers that have no known range."""
    image.load()
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        raise ValueError(
            f"its pixels are {'32-bit' if image.mode == 'I' else 'floating-point'} numbers of an unknown range: "
            "save it with 8 or 16 bits"
        )
    turn = _TRANSPOSE.get(_orientation(image))
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert(_PREMULTIPLIED.get(image.mode, "RGBA")).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of data beside the pixels, which are whole
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, with what is transparent in it."""
    values = np.asarray(image).astype(np.uint32).clip(0, 65535)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    clear = image.info.get("transparency")  # of a PNG: the value that is not to be seen
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
