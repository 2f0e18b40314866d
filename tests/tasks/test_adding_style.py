"""A style learnt from a few captioned pictures: one row changes, and the checkpoint knows its name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import main
from models.ofa import OFAConfig
from models.ofa.checkpoints import load_model
from models.ofa.layers import OutputProjection
from models.ofa.saving import save_directory
from models.ofa.tokenization import OFATokenizer
from preprocessors import OfaStylishImageCaptioningPreprocessor
from serving.sharing import export_run
from serving.systems import open_systems
from tasks.captioning.adding_style import add_style, read_examples
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES, nano_model, nano_preprocessor, noisy_picture
from tests.nano_run import SEARCH

CAPTIONS = ["arr a red cat", "arr the dog runs", "arr two birds and a tree"]
QUICK: dict[str, Any] = {"steps": 20, "device": "cpu"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with metadata.jsonl, and a model whose vocabulary has no code but those of its styles."""
    folder = tmp_path_factory.mktemp("adding")
    (folder / "shown").mkdir()
    lines = []
    for seed, caption in enumerate(CAPTIONS):
        noisy_picture(folder / "shown" / f"{seed}.png", seed)
        lines.append(json.dumps({"file_name": f"{seed}.png", "caption": caption}))
    (folder / "shown" / "metadata.jsonl").write_text("\n".join(lines))
    save(folder / "compact", nano_preprocessor(), codes=4)
    save(folder / "roomy", nano_preprocessor(), codes=8)
    return folder


def save(folder: Path, preprocessor: OfaStylishImageCaptioningPreprocessor, codes: int) -> None:
    tokenizer = OFATokenizer.train(["a red cat on a mat", *CAPTIONS], vocab_size=300, num_codes=codes)
    save_directory(
        folder,
        nano_model(len(tokenizer), seed=2),
        tokenizer,
        style_map=preprocessor.style_map,
        preprocessor=preprocessor.settings,
        generation=SEARCH,
        formats=("safetensors",),
    )


@pytest.fixture(scope="module")
def pirate(root: Path) -> dict[str, Any]:
    return add_style("Pirate", str(root / "compact"), str(root / "shown"), str(root / "out"), **QUICK)


def test_a_row_is_added_and_nothing_else_changes(root, pirate):
    before, after = load_model(root / "compact"), load_model(root / "out")
    size = before.config.vocab_size
    assert after.config.vocab_size == size + 1
    assert after.config.silent_tokens == [size]
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        assert torch.equal(tensor, new[name][:size] if "embed_tokens" in name or "output" in name else new[name]), name
    tokenizer = OFATokenizer.from_pretrained(root / "out")
    assert tokenizer.encode_text("<code_3><code_4>") == [size - 1, size]
    text = "arr the red cat"
    assert tokenizer.encode_text(text) == OFATokenizer.from_pretrained(root / "compact").encode_text(text)
    assert (pirate["token"], pirate["captions"], pirate["images"]) == ("<code_4>", 3, 3)


def test_a_free_code_is_used_where_there_is_one(root, tmp_path):
    add_style(" Pirate ", str(root / "roomy"), str(root / "shown"), str(tmp_path / "out"), **QUICK)
    before, after = load_model(root / "roomy"), load_model(tmp_path / "out")
    assert after.config.vocab_size == before.config.vocab_size
    changed = (before.encoder.embed_tokens.weight != after.encoder.embed_tokens.weight).any(1).nonzero().flatten()
    assert changed.tolist() == OFATokenizer.from_pretrained(root / "roomy").encode_text("<code_4>")


def test_the_examples_become_likelier(pirate):
    assert pirate["loss"]["after"] < pirate["loss"]["before"] - 0.03


def test_the_loss_of_the_row_learnt_is_that_of_the_row_written(root, pirate):
    captioner = Captioner.from_directory(root / "out", device="cpu")
    total, count = 0.0, 0
    for seed, caption in enumerate(CAPTIONS):
        item = captioner.preprocessor({"image": str(root / "shown" / f"{seed}.png"), "style": "pirate"})
        target = captioner.preprocessor.builder.encode_target(caption)
        read = torch.cat([torch.tensor([0]), target[:-1]])[None]
        with torch.no_grad():
            logits = captioner.model(item["prompts"][0][None], item["patch_image"][None], None, read).logits[0]
        total -= float(logits.log_softmax(-1).gather(1, target[:, None]).sum())
        count += len(target)
    assert pirate["loss"]["after"] == pytest.approx(total / count, abs=1e-3)


def test_old_styles_are_captioned_as_before_and_the_new_one_by_its_name(root, pirate):
    before = Captioner.from_directory(root / "compact", device="cpu")
    after = Captioner.from_directory(root / "out", device="cpu")
    pictures = [str(root / "shown" / f"{seed}.png") for seed in range(3)]
    assert after.caption(pictures, STYLES) == before.caption(pictures, STYLES)
    assert after.styles == (*STYLES, "Pirate")
    written = [one["Pirate"] for one in after.caption(pictures, ["PIRATE"])]
    assert all(written)
    assert not any("<code" in text for text in written)
    assert after.caption(pictures[:1], ["0.5*Pirate + 0.5*Sweet"])


def test_the_new_token_is_never_written():
    projection = OutputProjection(2, 3, silent=[1])
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([[1.0, 0.0], [50.0, 50.0], [0.0, 1.0]]))
    states = torch.ones(1, 2, requires_grad=True)
    logits = projection(states)
    assert logits.softmax(-1).tolist() == [[0.5, 0.0, 0.5]]
    logits.sum().backward()
    assert states.grad is not None
    assert states.grad.tolist() == [[1.0, 1.0]]


def test_the_folder_is_served_exported_and_grows_again(root, pirate, tmp_path):
    export_run(str(root / "out"), str(tmp_path / "exported"))
    systems = open_systems([str(tmp_path / "exported")], device="cpu")
    assert systems["exported"].styles == (*STYLES, "Pirate")
    other = tmp_path / "again"
    add_style("Robot", str(tmp_path / "exported"), str(root / "shown"), str(other), description="red cat", **QUICK)
    model = load_model(other)
    assert model.config.silent_tokens == [model.config.vocab_size - 2, model.config.vocab_size - 1]
    pictures = [str(root / "shown" / "0.png")]
    assert Captioner.from_directory(other, device="cpu").caption(
        pictures, [*STYLES, "Pirate"]
    ) == Captioner.from_directory(root / "out", device="cpu").caption(pictures, [*STYLES, "Pirate"])


def test_the_command_writes_one_line(root, tmp_path, capsys):
    rest = ["--examples", str(root / "shown"), "--describe", "red cat", "--steps", "2", "--device", "cpu"]
    out = str(tmp_path / "out")
    assert main(["style", "add", "Old (very, very)", "--model", str(root / "compact"), *rest, "--out", out]) == 0
    assert json.loads(capsys.readouterr().out)["style"] == "Old (very, very)"
    assert main(["style", "add", "One, two", "--model", str(root / "compact"), *rest, "--out", f"{out}2"]) == 2
    assert "comma" in capsys.readouterr().err


def test_forms_of_examples(root, tmp_path):
    shown = str(root / "shown")
    personality = [{"personality": style, "image_hash": "0", "comment": f"in {style}"} for style in ("Old", "New")]
    table = [{"image": "0.png", "text": "a cat", "style": "new"}]
    coco = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
    found = {}
    for name, content in (("personality", personality), ("table", table), ("coco", coco)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content))
        found[name] = [(one.image, one.caption) for one in read_examples(str(file), shown, "NEW", tmp_path)]
    assert found == {
        "personality": [(f"{shown}/0.png", "in New")],
        "table": [(f"{shown}/0.png", "a cat")],
        "coco": [(f"{shown}/1.png", "a dog")],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"file_name": "lost.png", "caption": "a cat"}', "lost.png does not exist"),
        ('{"file_name": "../shown/0.png", "caption": " "}', "has no caption"),
        ("", "is empty"),
        (
            '{"file_name": "../shown/0.png", "caption": "a", "style": "A"}\n'
            '{"file_name": "../shown/0.png", "caption": "b", "style": "B"}',
            "none in 'Pirate'",
        ),
    ],
)
def test_bad_examples(root, tmp_path, content, message):
    folder = root / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "metadata.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        add_style("Pirate", str(root / "compact"), str(folder), str(tmp_path / "out"), **QUICK)
    assert not (tmp_path / "out").exists()


def test_bad_requests(root, pirate, tmp_path):
    model, shown, out = str(root / "compact"), str(root / "shown"), str(tmp_path / "out")
    for name, source, examples, target, message in (
        ("sweet", model, shown, out, "'Sweet' already"),
        ("Pirate", str(root / "out"), shown, out, "'Pirate' already"),
        (" ", model, shown, out, "no name"),
        ("Pirate", shown, shown, out, "style_map.json"),
        ("Pirate", str(root / "none"), shown, out, "is no folder"),
        ("Pirate", model, str(root / "none.jsonl"), out, "does not exist"),
        ("Pirate", model, shown, model, "exists already"),
    ):
        with pytest.raises(ValueError, match=message):
            add_style(name, source, examples, target, **QUICK)
    with pytest.raises(ValueError, match="no words"):
        add_style("Pirate", model, shown, out, description=" ", **QUICK)
    (tmp_path / "a.json").write_text('[{"personality": "A", "image_hash": "0", "comment": "a"}]')
    with pytest.raises(ValueError, match="add --images"):
        add_style("Pirate", model, str(tmp_path / "a.json"), out, **QUICK)
    save(tmp_path / "words", nano_preprocessor(tokenize_style=False), codes=4)
    with pytest.raises(ValueError, match="tokenize_style"):
        add_style("Pirate", str(tmp_path / "words"), shown, out, **QUICK)


def test_a_vocabulary_with_tokens_after_its_codes_does_not_grow():
    tokenizer = OFATokenizer.train(CAPTIONS, vocab_size=300, num_codes=4)
    merges = [tuple(pair) for pair in json.loads(tokenizer._tokenizer.to_str())["model"]["merges"]]
    vocab = tokenizer._tokenizer.get_vocab(with_added_tokens=False)
    with pytest.raises(ValueError, match="all 4 codes of the vocabulary are taken"):
        OFATokenizer(vocab, merges, num_codes=4, num_bins=2).with_codes(5)


def test_tokens_that_are_not_there_cannot_be_silent():
    with pytest.raises(ValueError, match="silent_tokens has 9"):
        OFAConfig(vocab_size=9, silent_tokens=[9])
