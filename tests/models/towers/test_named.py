"""Towers by name, and the command that makes grids of pictures with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import finetune
from data.features import FeatureStore
from models.ofa.resnet import ResNet
from models.towers.lite0 import PACKAGE
from models.towers.named import is_tower, tower_named


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (40 + seed, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    file = tmp_path / "resnet50.pth"
    torch.save(ResNet("resnet50").state_dict() | {"fc.weight": torch.zeros(1, 1)}, file)
    return file


def test_a_resnet_s_grids_are_those_of_one_picture(
    pictures: Path, resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, name = tmp_path / "store", f"resnet:{resnet}"
    common = ["features", "extract", "--images", str(pictures), "--out", str(out), "--tower", name, "--grid", "2"]
    assert finetune.main([*common, "--side", "64", "--dtype", "float32", "--batch", "2"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["images"], info["width"], info["grid"], info["stride"]) == (3, 1024, [2, 2], 32)
    assert is_tower(info["detector"])
    again = tower_named(info["detector"])
    with Image.open(pictures / "1.png") as image:
        one = again.features(image, "1", 2, dtype="float32")
    np.testing.assert_allclose(one.features, FeatureStore(out)["1"].features, atol=1e-5)
    assert finetune.main([*common, "--side", "64"]) == 2  # nothing is overwritten
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("vgg", "choose lite0, resnet:FILE or pixels"), ("lite0@50", "multiple of 32"), ("resnet:none.pth", "none.pth")],
)
def test_towers_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower_named(name)


def test_weights_that_are_no_resnet(tmp_path: Path, resnet: Path) -> None:
    state = torch.load(resnet, weights_only=True)
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no ResNet of bottleneck blocks"):
        tower_named(f"resnet:{tmp_path / 'other.pth'}")
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"lacks 1 weights of resnet(34|50), such as layer2.0.conv1.weight"):
        tower_named(f"resnet:{tmp_path / 'cut.pth'}")
    with pytest.raises(ValueError, match="finer than the tower's: at most 2"):
        tower_named(f"resnet:{resnet}@32").grid(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 3)


def test_lite0_s_grids(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(PACKAGE)
    out = tmp_path / "store"
    assert finetune.main(["features", "extract", "--images", str(pictures), "--out", str(out), "--side", "96"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["grid"], info["detector"]) == ([7, 7], "lite0@96")


def test_stores_are_joined_cut_and_checked(
    pictures: Path, resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, name = tmp_path / "store", f"resnet:{resnet}"
    arguments = ["--tower", name, "--grid", "1", "--side", "32"]
    assert finetune.main(["features", "extract", "--images", str(pictures), "--out", str(store), *arguments]) == 0
    (tmp_path / "ids.txt").write_text("2\n0\n")
    cut, one = tmp_path / "cut", tmp_path / "one"
    assert finetune.main(["features", "subset", str(store), "--ids", str(tmp_path / "ids.txt"), "--out", str(cut)]) == 0
    assert list(FeatureStore(cut)) == ["2", "0"]
    (tmp_path / "ids.txt").write_text("1\n")
    assert finetune.main(["features", "subset", str(store), "--ids", str(tmp_path / "ids.txt"), "--out", str(one)]) == 0
    assert finetune.main(["features", "merge", str(cut), str(one), "--out", str(tmp_path / "all")]) == 0
    assert list(FeatureStore(tmp_path / "all")) == ["2", "0", "1"]
    capsys.readouterr()
    assert finetune.main(["features", "check", str(store)]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    file = store / "features.npy"
    file.write_bytes(file.read_bytes()[:-2] + b"\x00\x7c")
    assert finetune.main(["features", "check", str(store)]) == 1
    assert "another hash" in json.loads(capsys.readouterr().out)["faults"][0]
    assert finetune.main(["features", "merge", str(cut), str(cut), "--out", str(tmp_path / "twice")]) == 2
