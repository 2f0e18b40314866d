"""The registered preprocessor: items for training and inference, and building it again from a directory."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer
from preprocessors.collate import collate
from preprocessors.stylish import MODULE_NAME, OfaStylishImageCaptioningPreprocessor
from tests.conftest import ROOT

SETTINGS: dict[str, Any] = {
    "prompt": " write a {} reply.",
    "tokenize_style": True,
    "unknown_style": "error",
    "patch_image_size": 4,
    "max_image_size": 6,
    "max_tgt_length": 3,
    "lowercase": False,
    "flip": False,
}


@dataclass(frozen=True)
class Asked:
    style: str
    caption: str
    image_id: str = "x1"
    references: tuple[str, ...] = ("one", "two")


@pytest.fixture(scope="module")
def tokenizer():
    return OFATokenizer.train([" write a reply.", "a dog on the left runs fast"] * 3, vocab_size=320, num_codes=5)


@pytest.fixture
def make(tokenizer):
    def build(mode="train", **changes):
        style_map = StyleMap.from_styles(["Sweet", "Cynical"])
        settings = SETTINGS | changes
        return OfaStylishImageCaptioningPreprocessor(mode=mode, tokenizer=tokenizer, style_map=style_map, **settings)

    return build


@pytest.fixture
def directory(make, tmp_path):
    preprocessor = make()
    preprocessor.save_files(tmp_path)
    configuration = {"task": "image-captioning", "preprocessor": preprocessor.section()}
    (tmp_path / "configuration.json").write_text(json.dumps(configuration))
    return tmp_path


PIXELS = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)


def test_training_group(make, tokenizer):
    samples = [Asked("Sweet", "A dog, on the left!"), Asked("Cynical", "fast"), Asked("sweet", "runs")]
    item = make()({"image": PIXELS, "image_id": "x1", "samples": samples})
    assert item["patch_image"].shape == (3, 4, 4)
    assert item["patch_mask"] is True
    texts = [tokenizer.decode(prompt, clean_up_tokenization_spaces=False) for prompt in item["prompts"]]
    assert texts == ["<s> write a  <code_0>  reply.</s>", "<s> write a  <code_1>  reply.</s>"]
    assert [row for row, _ in item["captions"]] == [0, 1, 0]
    targets = [tokenizer.decode(target) for _, target in item["captions"]]
    assert targets == [" A dog on</s>", " fast</s>", " runs</s>"]  # three words at most
    assert item["requests"] == [
        {"image_id": "x1", "style": style, "references": ["one", "two"]} for style in ("Sweet", "Cynical", "Sweet")
    ]


def test_in_the_decoder_the_style_is_the_start_and_the_prompt_is_shared(make, tokenizer):
    samples = [Asked("Sweet", "a dog"), Asked("Cynical", "fast"), Asked("sweet", "runs")]
    item = make(place="decoder")({"image": PIXELS, "samples": samples})
    assert [tokenizer.decode(prompt) for prompt in item["prompts"]] == ["<s> write a  reply.</s>"]
    assert [row for row, _ in item["captions"]] == [0, 0, 0]
    assert [tokenizer.decode([start]).strip() for start in item["starts"]] == ["<code_0>", "<code_1>", "<code_0>"]
    assert make()({"image": PIXELS, "samples": samples})["starts"] == [0, 0, 0]
    with pytest.raises(ValueError, match="Sweat"):
        make(place="decoder")({"image": PIXELS, "style": "Sweat"})


def test_a_style_in_the_decoder_is_one_token(make):
    with pytest.raises(ValueError, match=r"style.place = \"decoder\" needs style.tokenize_style = true"):
        make(place="decoder", tokenize_style=False)
    with pytest.raises(ValueError, match="style.place must be"):
        make(place="encoder")


def test_items_make_batches(make):
    preprocessor = make()
    asked = {"image": PIXELS, "samples": [Asked("Sweet", "a dog"), Asked("Cynical", "a dog")]}
    batch = collate([preprocessor(asked), preprocessor({"image": PIXELS, "style": "Sweet"})])
    assert batch["patch_images"].shape == (2, 3, 4, 4)
    assert batch["image_index"].tolist() == [0, 0, 1]
    assert batch["encoder_index"].tolist() == [0, 1, 2]
    assert batch["target"][2].tolist() == [2, *[1] * (batch["target"].shape[1] - 1)]  # nothing to learn: eos at once


def test_inference_accepts_paths_pictures_and_arrays(make, tmp_path):
    preprocessor = make("inference")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    sources = [PIXELS, Image.fromarray(PIXELS), tmp_path / "a.png", str(tmp_path / "a.png")]
    items = [preprocessor({"image": source, "style": "CYNICAL", "image_id": 7}) for source in sources]
    expected = torch.from_numpy(PIXELS[1:5, 1:5].copy()).permute(2, 0, 1) / 127.5 - 1  # the centre
    for item in items:
        torch.testing.assert_close(item["patch_image"], expected)
        assert item["requests"] == [{"image_id": "7", "style": "Cynical", "references": []}]


def test_absent_image_is_zeros_with_a_false_mask(make):
    item = make("eval")({"image": None, "style": "Sweet"})
    assert item["patch_mask"] is False
    assert item["patch_image"].equal(torch.zeros(3, 4, 4))


def test_mode_decides_on_the_crop(make):
    preprocessor = make("train")
    generator = torch.Generator().manual_seed(0)
    asked = {"image": PIXELS, "style": "Sweet", "generator": generator}
    assert len({preprocessor(asked)["patch_image"][0, 0, 0].item() for _ in range(100)}) == 9
    preprocessor.mode = "inference"
    assert len({preprocessor(asked)["patch_image"][0, 0, 0].item() for _ in range(20)}) == 1


def test_a_caption_that_says_left_is_never_mirrored(make):
    preprocessor = make("train", flip=True, max_image_size=4)
    pixels = np.ascontiguousarray(PIXELS[:4, :4])
    corners = {
        caption: {preprocessor({"image": pixels, "samples": [Asked("Sweet", caption)]})["patch_image"][0, 0, 0].item()
                  for _ in range(40)}
        for caption in ("a dog", "a dog on the left")
    }  # fmt: skip
    assert len(corners["a dog"]) == 2
    assert len(corners["a dog on the left"]) == 1


def test_unknown_styles(make):
    with pytest.raises(ValueError, match="did you mean Cynical"):
        make()({"image": PIXELS, "style": "Cynicall"})
    item = make(unknown_style="token")({"image": PIXELS, "samples": [Asked("Grumpy", "a"), Asked("Vain", "b")]})
    assert len(item["prompts"]) == 1  # both write the reserved token
    assert [request["style"] for request in item["requests"]] == ["Grumpy", "Vain"]


def test_long_words_do_not_outgrow_the_model(make):
    item = make()({"image": PIXELS, "samples": [Asked("Sweet", "z" * 5000)]})
    assert len(item["captions"][0][1]) == 257
    assert item["captions"][0][1][-1] == 2


def test_from_model_dir_and_through_modelscope(directory, make):
    from modelscope.preprocessors.base import Preprocessor

    asked = {"image": PIXELS, "style": "sweet"}
    expected = make("inference")(asked)
    registered = Preprocessor.from_pretrained(str(directory))
    ours = OfaStylishImageCaptioningPreprocessor.from_model_dir(directory)
    for preprocessor in (ours, registered):
        assert isinstance(preprocessor, OfaStylishImageCaptioningPreprocessor)
        assert preprocessor.mode == "inference"
        item = preprocessor(asked)
        assert item["patch_image"].equal(expected["patch_image"])
        assert item["prompts"][0].equal(expected["prompts"][0])


def test_directories_that_lack_something(directory):
    from_dir = OfaStylishImageCaptioningPreprocessor.from_model_dir
    (directory / "style_map.json").unlink()
    with pytest.raises(ValueError, match=r"style_map\.json"):
        from_dir(directory)
    (directory / "configuration.json").write_text(json.dumps({"preprocessor": {"type": MODULE_NAME, "flip": False}}))
    with pytest.raises(ValueError, match=r"configuration\.json: preprocessor lacks prompt, "):
        from_dir(directory)
    (directory / "configuration.json").write_text("{")
    with pytest.raises(ValueError, match=r"configuration\.json is not valid"):
        from_dir(directory)
    with pytest.raises(ValueError, match="absent"):
        from_dir(directory / "absent")


def test_calls_that_lack_something(make):
    with pytest.raises(ValueError, match="image"):
        make()({"style": "Sweet"})
    with pytest.raises(ValueError, match="style"):
        make()({"image": PIXELS})
    with pytest.raises(ValueError, match="model_dir"):
        OfaStylishImageCaptioningPreprocessor(**SETTINGS)


def test_import_stays_away_from_video_and_vision_packages():
    code = (
        "import sys, preprocessors; assert 'modelscope' not in sys.modules;"
        "preprocessors.OfaStylishImageCaptioningPreprocessor;"
        "bad = {'torchvision', 'decord', 'timm', 'cv2', 'modelscope.preprocessors.multi_modal'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
