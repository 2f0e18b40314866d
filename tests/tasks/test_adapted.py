"""Several adapters over one model: a mixed batch equals each adapter alone."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.ofa.adapters import LoraSettings, add_lora, write_adapter
from models.ofa.checkpoints import load_model
from models.ofa.mixed_adapters import PLAIN, open_adapters
from models.ofa.saving import save_directory, write_model
from tasks.captioning.adapted import AdapterCaptioner, AdapterRequest
from tasks.captioning.adding_style import add_style
from tasks.captioning.captioner import Captioner
from tests.models.nano import nano_captioner, nano_model, nano_preprocessor, noisy_picture
from tests.nano_run import SEARCH

pytestmark = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs EXTRAS=lora")
#: Adapter -> its styles, its targets and where its styles stand.
ADAPTERS = {
    "moods": (("Sweet", "Cynical", "Humorous"), ("q_proj", "v_proj", "fc1"), "prompt"),
    "eras": (("Old", "New"), ("k_proj", "cross_attn.out_proj", "fc2"), "prompt"),
    "short": (("Terse", "Plain"), ("v_proj",), "decoder"),
}


def write_adapted(folder: Path, base: Path, name: str) -> Path:
    """A folder of the adapter `name` over the model in `base`, with noise for what it learnt."""
    styles, targets, where = ADAPTERS[name]
    preprocessor = nano_preprocessor(styles, place=where)
    model = load_model(base)
    seed = list(ADAPTERS).index(name) + 1
    torch.manual_seed(seed)
    ids = preprocessor.style_map.token_ids(preprocessor.tokenizer).values()
    add_lora(model, LoraSettings(rank=seed + 1, targets=targets), {token: 3 * torch.randn(32) for token in ids})
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.shape[-1] == seed + 1:
            nn.init.normal_(parameter, std=0.3)
    target = folder / name
    target.mkdir()
    settings: dict[str, Any] = {
        "style_map": preprocessor.style_map,
        "preprocessor": preprocessor.settings,
        "generation": SEARCH,
    }
    write_model(target, model, preprocessor.tokenizer, **settings, formats=())
    write_adapter(target, model, str(base))
    return target


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapted")
    one = nano_captioner()
    save_directory(
        folder / "base",
        one.model,
        one.preprocessor.tokenizer,
        style_map=one.preprocessor.style_map,
        preprocessor=one.preprocessor.settings,
        generation=SEARCH,
        formats=("safetensors",),
    )
    return {name: write_adapted(folder, folder / "base", name) for name in ADAPTERS}


def test_a_mixed_batch_equals_each_adapter_alone(folders, tmp_path):
    pictures = [noisy_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    asked = [
        AdapterRequest(picture, style, name)
        for picture in pictures
        for name, (styles, _, _) in ADAPTERS.items()
        for style in styles
    ]
    mixed = AdapterCaptioner.from_directories(folders, device="cpu")
    written = mixed.caption(asked, batch_size=50)
    alone = {name: Captioner.from_directory(folder, device="cpu") for name, folder in folders.items()}
    expected = [alone[one.adapter].caption([one.image], [one.style])[0][one.style] for one in asked]
    assert written == expected
    assert len(set(written)) > len(asked) // 2  # noise that tells adapters, styles and pictures apart
    assert mixed.caption(list(reversed(asked)), batch_size=5) == expected[::-1]
    # A search whose prompts end at different steps, so that rows leave it.
    longer = {"max_len_b": 12, "beam_size": 3, "length_penalty": 0.5}
    assert mixed.caption(asked, batch_size=50, **longer) == [
        alone[one.adapter].caption([one.image], [one.style], **longer)[0][one.style] for one in asked
    ]


def test_a_style_is_added_to_an_adapter_with_its_model(folders, tmp_path):
    picture = noisy_picture(tmp_path / "a.png", 1)
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "caption": "a red cat"}')
    add_style("New", str(folders["moods"]), str(tmp_path / "a.jsonl"), str(tmp_path / "out"), steps=1, device="cpu")
    one, other = (Captioner.from_directory(folder, device="cpu") for folder in (folders["moods"], tmp_path / "out"))
    assert other.styles == (*one.styles, "New")
    assert other.caption([picture], one.styles) == one.caption([picture])


def test_logits_of_a_mixed_batch_are_those_of_merged_weights(folders):
    model = load_model(folders["moods"].parent / "base")
    plain = load_model(folders["moods"].parent / "base")
    open_adapters(model, {name: folders[name] for name in ("moods", "eras")})
    names = ["eras", "moods", PLAIN, "eras"]
    [code] = nano_preprocessor().tokenizer.encode_text("<code_0>")
    ids = torch.tensor([[0, 5, code, 7, 2], [0, code, code + 1, 9, 2], [0, code, 4, 6, 2], [0, 8, 9, code + 1, 2]])
    pixels = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([0, code, 9, 10])
    alone = {"moods": load_model(folders["moods"]), "eras": load_model(folders["eras"]), PLAIN: plain}

    def first_logits(one, rows, adapters=None):
        encoded = one.encoder(ids[rows], pixels[rows], adapters=adapters)
        source = one.decoder.prepare(encoded, 3)
        caches = one.decoder.caches(2 * len(rows), 3, like=encoded.last_hidden_state)
        return one.decoder.step(tokens[rows].repeat_interleave(2), 0, source, caches)

    with torch.no_grad():
        mixed = first_logits(model, list(range(4)), names)
        expected = torch.cat([first_logits(alone[name], [row]) for row, name in enumerate(names)])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-4)
    assert (mixed[0] - first_logits(plain, [0])[0]).abs().max() > 0.1


def test_what_cannot_be_asked(folders, tmp_path):
    with pytest.raises(ValueError, match="holds none: name a checkpoint"):
        AdapterCaptioner.from_directories({"base": folders["moods"].parent / "base"})
    captioner = AdapterCaptioner.from_directories({"moods": folders["moods"]}, device="cpu")
    picture = noisy_picture(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="unknown adapter 'eras': there are moods"):
        captioner.caption([AdapterRequest(picture, "Old", "eras")])
    with pytest.raises(ValueError, match="unknown style 'Old'"):
        captioner.caption([AdapterRequest(picture, "Old", "moods")])


def test_adapters_of_different_models_are_refused(folders, tmp_path):
    other = nano_captioner()
    other.model = nano_model(len(other.preprocessor.tokenizer), seed=9)
    save_directory(
        tmp_path / "base",
        other.model,
        other.preprocessor.tokenizer,
        style_map=other.preprocessor.style_map,
        preprocessor=other.preprocessor.settings,
        generation=SEARCH,
        formats=("safetensors",),
    )
    foreign = write_adapted(tmp_path, tmp_path / "base", "eras")
    with pytest.raises(ValueError, match="moods and eras belong to different models"):
        AdapterCaptioner.from_directories({"moods": folders["moods"], "eras": foreign})


def test_an_adapter_of_what_rows_share_is_refused(folders, tmp_path):
    model = load_model(folders["moods"].parent / "base")
    add_lora(model, LoraSettings(rank=2, targets=("image_proj",)), {})
    (tmp_path / "shared").mkdir()
    write_adapter(tmp_path / "shared", model, str(folders["moods"].parent / "base"))
    with pytest.raises(ValueError, match=r"shared .* changes encoder\.image_proj, which the requests of a batch share"):
        open_adapters(load_model(folders["moods"].parent / "base"), {"shared": tmp_path / "shared"})
