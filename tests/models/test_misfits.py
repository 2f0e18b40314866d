"""Weights that do not fit, and files that are not what they should be: nothing loads, and the error tells why."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.ofa import OFAModel, preset_config
from models.ofa.checkpoints import load_model, load_resnet_weights
from models.ofa.resnet import ResNet
from tests.models.nano import nano_model
from tests.models.saved import EVIL_MARK, Evil, rewrite


def test_every_kind_of_misfit_is_listed(saved, model):
    state = model.state_dict()
    del state["encoder.pos_ln.weight"], state["decoder.pos_ln.bias"]
    state["encoder.layers.0.w_resid"] = torch.ones(32)
    state["encoder.image_proj.bias"] = torch.zeros(33)
    rewrite(saved, state)

    with pytest.raises(ValueError, match="do not fit") as caught:
        load_model(saved)

    text = str(caught.value)
    assert str(saved) in text
    assert "2 missing: encoder.pos_ln.weight, decoder.pos_ln.bias" in text
    assert "1 unexpected: encoder.layers.0.w_resid" in text
    assert "1 of another shape: encoder.image_proj.bias [33] instead of [32]" in text


def test_long_lists_are_cut_after_ten_names(saved, model):
    rewrite(saved, {name: value for name, value in model.state_dict().items() if "self_attn." not in name})
    with pytest.raises(ValueError, match=r"36 missing: (\S+, ){10}… \(36 in all\)"):
        load_model(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_bucket_size", 9), ("token_bucket_size", 17), ("max_position_embeddings", 40), ("share_attn_bias", True)],
)
def test_other_position_tables_name_the_field_to_set(saved, model, field, value):
    with pytest.raises(
        ValueError, match=rf"position tables .*set {field} to {getattr(model.config, field)} \(it is {value}\)"
    ):
        load_model(saved, config_overrides={field: value})


def test_another_vocabulary_says_so(saved, model):
    size = model.config.vocab_size
    with pytest.raises(ValueError, match=rf"vocabulary has {size} entries and the configuration's vocab_size is 77"):
        load_model(saved, config_overrides={"vocab_size": 77})


def test_another_size_names_the_preset_that_the_file_looks_like(saved):
    tiny = preset_config("tiny", vocab_size=20, image_bucket_size=8, token_bucket_size=16)
    rewrite(saved, OFAModel(tiny).state_dict())
    with pytest.raises(ValueError, match=r'looks like preset "tiny": it has .*d_model 256, not 32'):
        load_model(saved)


def test_a_table_of_positions_that_is_not_ofas_is_refused(saved, model):
    state = model.state_dict()
    state["encoder.image_rp_bucket"] = state["encoder.image_rp_bucket"].flip(0)
    rewrite(saved, state)
    with pytest.raises(ValueError, match=r"encoder.image_rp_bucket is not OFA's table"):
        load_model(saved)


def test_rounding_in_the_text_table_is_kept_as_trained(saved, model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["encoder.token_rp_bucket"][0, 900] += 1
    rewrite(saved, state)
    loaded = load_model(saved).state_dict()
    assert torch.equal(loaded["encoder.token_rp_bucket"], state["encoder.token_rp_bucket"])


def test_other_image_codes_are_refused(saved, model):
    with pytest.raises(ValueError, match=r"decoder.image_position_idx is that of another code_image_size"):
        load_model(saved, config_overrides={"code_image_size": 64})


def test_untied_embeddings_are_refused(saved, model):
    state = model.state_dict()
    state["decoder.output_projection.weight"] = state["decoder.output_projection.weight"] + 1
    rewrite(saved, state)
    with pytest.raises(ValueError, match="one weight in OFA, but differ"):
        load_model(saved)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_pickle_never_runs(tmp_path, monkeypatch, model, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": model.state_dict(), "extra": Evil()}, "evil.pt", _use_new_zipfile_serialization=zipped)

    with pytest.raises(ValueError, match=r"evil.pt holds code beside its tensors \(\w+.mkdir\).*weights_only=False"):
        load_model("evil.pt")

    assert not Path(EVIL_MARK).exists()


def test_objects_of_unknown_classes_are_refused(tmp_path):
    path = tmp_path / "odd.pt"
    torch.save({"model": {"a": torch.ones(1)}, "cfg": Path("x")}, path)
    with pytest.raises(ValueError, match=r"odd.pt holds code beside its tensors \(pathlib"):
        load_model(path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(saved, name, keep):
    if name == "pytorch_model.bin":
        (saved / "model.safetensors").unlink()
    path = saved / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{name} is damaged or truncated"):
        load_model(saved)


def test_a_text_file_is_no_checkpoint(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("these are notes\n" * 50)
    with pytest.raises(ValueError, match="notes.pt is damaged or truncated, or is no file of torch.save"):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds no table of weights but a list"),
        ({"step": 3, "a": torch.ones(1)}, "holds more than tensors: step"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, content, words):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path / "other.pt")


def test_a_directory_that_lacks_something_names_it(saved):
    (saved / "config.json").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*config.json"):
        load_model(saved)
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="has no weights: neither model.safetensors nor pytorch_model.bin"):
        load_model(saved)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_model(saved / "nowhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "config.json is not valid JSON"),
        ('{"model_type": "bert"}', "config.json describes 'bert'"),
        ('{"model_type": "ofa", "d_model": "wide"}', "config.json: .*d_model"),
        ('{"model_type": "ofa", "use_ofasys": true}', "config.json: .*use_ofasys"),
    ],
)
def test_a_broken_configuration_is_named(saved, text, words):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_model(saved)


def torchvision_resnet(resnet_type: str) -> dict[str, Tensor]:
    """Like torchvision's: the first three stages as our own tower has them, a fourth and the classifier beside."""
    state = {
        name: torch.rand_like(value) if value.is_floating_point() else value + 5
        for name, value in ResNet(resnet_type).state_dict().items()
    }
    return state | {
        "layer4.0.conv1.weight": torch.ones(512, 1024, 1, 1),
        "fc.weight": torch.ones(1000, 2048),
        "fc.bias": torch.ones(1000),
    }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_resnet_weights_start_the_image_tower(tmp_path, suffix):
    model = nano_model(30)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = torchvision_resnet("resnet18")
    path = tmp_path / f"resnet{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)

    ignored = load_resnet_weights(model, path)

    assert sorted(ignored) == sorted(["layer4.0.conv1.weight", "fc.weight", "fc.bias"])
    for name, value in model.state_dict().items():
        inside = name.removeprefix("encoder.embed_images.")
        assert torch.equal(value, weights[inside] if inside != name else before[name]), name


def test_a_resnet_of_another_depth_is_refused(tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(torchvision_resnet("resnet50"), path)
    with pytest.raises(
        ValueError, match=r"resnet50.pth: its first three stages are not those of resnet18.*unexpected: layer1.2"
    ):
        load_resnet_weights(nano_model(30), path)


def test_code_in_a_resnet_file_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"conv1.weight": torch.ones(1)}, "x": Evil()}, "evil.pth")
    with pytest.raises(ValueError, match="evil.pth holds code"):
        load_resnet_weights(nano_model(30), "evil.pth")
    assert not Path(EVIL_MARK).exists()
