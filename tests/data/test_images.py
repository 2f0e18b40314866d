"""Decoding: pixels of every mode by hand, and one verdict of doctor, loader and question pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data.doctor import examine
from data.images import decode, to_rgb
from data.pictures import Pictures
from data.samples import Row, Split
from preprocessors.images import load_image
from tests.conftest import SHARED, needs_shared

CASES = SHARED / "cases" / "images"


def saved(image: Image.Image, format: str = "png", **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    stream.seek(0)
    return stream


def grey16(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


def first_row(image: Image.Image) -> list:
    return np.asarray(image)[0].tolist()


# --- 16 bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled_to_eight(format: str):
    # 257 steps of 16 bits are one of 8: 0, 1, 127 and 255; 32,768 lies at 127.5019
    picture = decode(saved(grey16(0, 257, 127 * 257, 65535, 32768), format))
    assert first_row(picture) == [[0] * 3, [1] * 3, [127] * 3, [255] * 3, [128] * 3]


def test_sixteen_bits_with_a_value_that_is_clear():
    stream = saved(grey16(0, 257 * 40, 65535), "png", transparency=257 * 40)
    assert first_row(decode(stream)) == [[0] * 3, [255] * 3, [255] * 3]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_of_an_unknown_range_are_refused(dtype: type, tmp_path: Path):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.full((4, 4), 70000, dtype)).save(path)
    with pytest.raises(ValueError, match=r"a.tiff cannot be read \(its pixels are .* of an unknown range: save it"):
        load_image(path)
    with pytest.raises(ValueError, match="unknown range"):
        to_rgb(Image.fromarray(np.zeros((4, 4), dtype)))


# --- transparency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_is_white(mode: str):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 102))  # 40% black over white: 255 · 0.6 = 153
    through = {"RGBA": [], "LA": ["LA"], "PA": ["P", "PA"], "RGBa": ["RGBa"], "La": ["LA", "La"]}[mode]
    if mode == "PA":
        grey = image.convert("LA").getchannel("L").convert("P")
        grey.putalpha(image.getchannel("A"))
        image = grey
    else:
        for step in through:
            image = image.convert(step)
    assert image.mode == mode
    assert first_row(to_rgb(image)) == [[0] * 3, [153] * 3, [255] * 3]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_colour_that_stands_for_nothing_is_white(mode: str):
    image = Image.new("L", (2, 1), 255).convert(mode)
    image.putpixel((0, 0), (0, 0, 0) if mode == "RGB" else 0)
    if mode == "P":
        image = Image.new("P", (2, 1), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((0, 0), 0)
    clear = (0, 0, 0) if mode == "RGB" else 0
    found = first_row(decode(saved(image, transparency=clear)))
    assert found[0] == [255] * 3
    assert found[1] == ([255, 0, 0] if mode == "P" else [255] * 3)


# --- EXIF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_upright_as_pillow_turns_them(turn: int):
    from PIL import ImageOps

    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = turn
    stream = saved(image, "png", exif=exif)
    with Image.open(stream) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    stream.seek(0)
    assert np.array_equal(np.asarray(decode(stream)), expected)


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0\x7f\0\0\0\x08", b"Exif\0\0", b"\xff" * 40, b"II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("format", ["webp", "jpeg", "png"])
def test_broken_exif_data_are_left_out_not_the_picture(format: str, exif: bytes):
    image = Image.new("RGB", (16, 12), (10, 200, 30))
    picture = decode(saved(image, format, exif=exif))
    assert picture.size == (16, 12)
    assert np.abs(np.asarray(picture).astype(int) - [10, 200, 30]).max() < 12


# --- one verdict -----------------------------------------------------------------------------------------------------


def zoo(folder: Path) -> None:
    """Sound and broken files of many kinds."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tiff"):
        rgb.save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("LAB").save(folder / "lab.tiff")
    rgb.convert("P").save(folder / "palette.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tiff")
    grey16(1, 2).save(folder / "sixteen.png")
    rgb.save(folder / "exif.webp", exif=b"Exif\0\0MM\0\x7f\0\0\0\x08")
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2000)
    rgb.save(folder / "text.png", pnginfo=info)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "words.jpg").write_text("no picture at all")


def test_doctor_loader_and_pictures_are_of_one_mind(tmp_path: Path):
    zoo(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    split = Split("train", ["Sweet"], (Row(str(tmp_path / name), name, "Sweet", "a b") for name in names))
    report = examine(split, max_words=5)
    faulty = {split[int(row)].image_id for rows in report.bad_rows.values() for row in rows}
    pictures = Pictures(tmp_path)
    for name in names:
        for draft in (None, 32):
            try:
                load_image(tmp_path / name, draft_size=draft)
                loads = True
            except ValueError:
                loads = False
            assert loads == (name not in faulty), f"{name} (draft {draft})"
        if name.endswith((".png", ".jpg", ".webp", ".gif", ".bmp")):
            if name in faulty:
                with pytest.raises(ValueError, match="cannot decode"):
                    pictures.open(name)
            else:
                pictures.open(name)
    assert {"exif.webp", "sixteen.png", "palette.png", "cmyk.jpg"}.isdisjoint(faulty)
    assert {"cut_a.jpg", "cut_a.png", "float.tiff", "empty.jpg", "words.jpg"} <= faulty


def test_too_many_pixels_are_too_many_for_the_loader_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match="30 x 20 pixels are more than Pillow trusts"),
    ):
        load_image(tmp_path / "a.png")


@needs_shared
def test_the_cases_that_failed():
    def mean(name: str) -> float:
        return float(np.asarray(load_image(CASES / name)).mean())

    assert mean("sixteen.png") == mean("eight.png") == pytest.approx(127, abs=1)
    ramp = np.asarray(load_image(CASES / "grey16.png"))
    assert 100 < ramp.mean() < 155
    bar = np.asarray(load_image(CASES / "bar_on_transparent.png"))
    assert {bar.min(), bar.max()} == {0, 255}
    assert np.asarray(load_image(CASES / "bad_exif.webp")).std() > 0
    names = sorted(path.name for path in CASES.iterdir())
    split = Split("train", ["Sweet"], (Row(str(CASES / name), name, "Sweet", "a b") for name in names))
    assert examine(split, max_words=5).faults == {}
