"""Reading pictures and the arithmetic of the image transform."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from preprocessors.images import ImageTransform, load_image


def gradient(height=4, width=4):
    """uint8 [H,W,3] whose red value is 10·row + column, so that a crop tells where it was cut."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([10 * rows + columns, np.full_like(rows, 100), np.full_like(rows, 200)], axis=2).astype(np.uint8)


def red(tensor):
    """The red channel as bytes again."""
    return ((tensor[0] * 0.5 + 0.5) * 255).round().int()


@pytest.mark.parametrize("train", [True, False])
def test_constant_image_by_hand(train):
    image = Image.new("RGB", (50, 30), (0, 255, 51))
    tensor = ImageTransform(8, 12, train=train)(image)
    assert tensor.shape == (3, 8, 8)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    # (value / 255 - 0.5) / 0.5: 0 -> -1, 255 -> 1, 51 -> 0.2 · 2 - 1 = -0.6
    for channel, expected in zip(tensor, (-1.0, 1.0, -0.6), strict=True):
        torch.testing.assert_close(channel, torch.full((8, 8), expected))


def test_evaluation_takes_the_centre():
    tensor = ImageTransform(2, 4, train=False, flip=True)(gradient())
    assert red(tensor).tolist() == [[11, 12], [21, 22]]


def test_equal_sizes_leave_nothing_to_draw():
    assert red(ImageTransform(4, 4, train=True)(gradient())).equal(red(ImageTransform(4, 4, train=False)(gradient())))


def test_training_crops_everywhere_and_repeats_with_its_generator():
    transform = ImageTransform(2, 4, train=True)
    generator = torch.Generator().manual_seed(0)
    corners = [red(transform(gradient(), generator))[0, 0].item() for _ in range(300)]
    assert set(corners) == {0, 1, 2, 10, 11, 12, 20, 21, 22}
    generator.manual_seed(0)
    assert [red(transform(gradient(), generator))[0, 0].item() for _ in range(300)] == corners


def test_flip_mirrors_half_of_the_training_images_where_allowed():
    transform = ImageTransform(4, 4, train=True, flip=True)
    straight, mirrored = [0, 1, 2, 3], [3, 2, 1, 0]
    generator = torch.Generator().manual_seed(0)
    rows = [red(transform(gradient(), generator))[0].tolist() for _ in range(200)]
    assert all(row in (straight, mirrored) for row in rows)
    assert 70 < rows.count(mirrored) < 130
    rows = [red(transform(gradient(), generator, may_flip=False))[0].tolist() for _ in range(50)]
    assert rows == [straight] * 50


def test_resize_is_pillows_bicubic_to_a_square():
    image = Image.fromarray(gradient(9, 5)).resize((64, 32))
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
    transform = ImageTransform(16, 16, train=False)
    assert (transform.resize(image) == expected).all()
    assert transform(image).equal(transform(np.asarray(image)))
    assert transform(transform.resize(image)).equal(transform(image))  # a cache of resized pictures changes nothing


@given(size=st.integers(1, 9), room=st.integers(0, 5), train=st.booleans(), value=st.integers(0, 255))
def test_shape_and_range(size, room, train, value):
    tensor = ImageTransform(size, size + room, train=train)(np.full((7, 6, 3), value, dtype=np.uint8))
    assert tensor.shape == (3, size, size)
    torch.testing.assert_close(tensor, torch.full_like(tensor, value / 127.5 - 1))


@pytest.mark.parametrize(("patch", "whole"), [(5, 4), (0, 4), (-1, 4)])
def test_sizes_that_do_not_fit_are_refused(patch, whole):
    with pytest.raises(ValueError, match="max_image_size 4"):
        ImageTransform(patch, whole, train=False)


def test_load_accepts_path_picture_and_array(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(gradient()), gradient()):
        image = load_image(source)
        assert image.mode == "RGB"
        assert (np.asarray(image) == gradient()).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.asarray(image).min() >= 254


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: to be turned clockwise
    picture = Image.new("RGB", (40, 20), (255, 0, 0))
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").size == (20, 40)


def test_a_large_jpeg_is_decoded_small_and_a_small_one_whole(tmp_path):
    Image.new("RGB", (1600, 800), (10, 200, 30)).save(tmp_path / "large.jpg")
    # an eighth of the height is 100, the least that is at least twice the 50 asked for
    assert load_image(tmp_path / "large.jpg", draft_size=50).size == (200, 100)
    assert load_image(tmp_path / "large.jpg", draft_size=300).size == (1600, 800)
    assert load_image(tmp_path / "large.jpg").size == (1600, 800)
    assert np.abs(np.asarray(load_image(tmp_path / "large.jpg", draft_size=50)).astype(int) - (10, 200, 30)).max() <= 3


def test_unreadable_files_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png"):
        Image.fromarray(noise).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "empty.jpg").touch()
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    for name in ("cut.jpg", "cut.png", "text.jpg", "empty.jpg"):
        with pytest.raises(ValueError, match=rf"{name}.*cannot be read.*skip_bad"):
            load_image(tmp_path / name)
    with pytest.raises(ValueError, match=r"absent\.jpg does not exist.*skip_bad"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        load_image(tmp_path)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), dtype=np.uint8), 7, None])
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(ValueError, match="an image"):
        load_image(wrong)
