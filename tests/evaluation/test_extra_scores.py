"""CLIPScore, CHAIR and metrics of the user's, and the signatures of scores."""

import json
import logging
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.run_folder import RunFolder
from data.samples import Sample
from evaluation import extra_scores
from evaluation.comparison import compare_runs
from evaluation.extra_scores import Extras
from evaluation.judging import judge
from evaluation.signatures import differing, reference_signature, signatures
from metrics.clip_score import PREFIX, clip_score, ref_clip_score
from models.clip import MEAN, STD, Clip
from tests.evaluation.test_bootstrap import random_predictions


def test_formulas_by_hand():
    x, y = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    assert clip_score(x, y) == pytest.approx(1.5)
    assert clip_score(x, -y) == 0
    assert ref_clip_score(1.5, x, [y, -x]) == pytest.approx(2 * 1.5 * 0.6 / 2.1)
    assert ref_clip_score(0.0, x, [-x]) == 0


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights, 16 numbers wide, that knows letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=small
        | {"vocab_size": len(words), "max_position_embeddings": 24, "bos_token_id": 52, "eos_token_id": 53},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    found = []
    for number, style in enumerate(["Dry", "Sweet", "Dry"]):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (40 + 10 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        found.append(Sample(str(path), str(number), style, "", (f"a dog {number}", "a cat on a mat")))
    return found


CAPTIONS = ["a dog", "a bus and a cat", "so nice"]


def test_clip_scores_equal_the_models_own_cosines(clip_folder, samples):
    clip = Clip.open(clip_folder)
    pictures = clip.images([sample.image for sample in samples])
    picture = pictures[samples[0].image]
    pixels = clip.pixels(Image.open(samples[0].image).convert("RGB"))
    assert pixels.shape == (3, 32, 32)
    batch = clip.tokenizer([PREFIX + CAPTIONS[0]], return_tensors="pt")
    with torch.inference_mode():
        output = clip.model(pixel_values=pixels[None], **batch)
    cosine = float((output.logits_per_image / clip.model.logit_scale.exp())[0, 0])
    written = clip.texts([PREFIX + CAPTIONS[0]])[0]
    assert float(written @ picture) == pytest.approx(cosine, abs=1e-5)
    scores = Extras(clip=str(clip_folder)).scores(samples, CAPTIONS)
    assert scores.each["CLIPScore"][0] == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    references = clip.texts([PREFIX + text for text in samples[0].references])
    expected = ref_clip_score(2.5 * max(cosine, 0), written, list(references))
    assert scores.each["RefCLIPScore"][0] == pytest.approx(expected, abs=1e-5)


def test_the_middle_of_a_picture_is_normalised(clip_folder):
    clip = Clip.open(clip_folder)
    image = Image.new("RGB", (96, 32), (255, 0, 0))
    image.paste((0, 255, 0), (32, 0, 64, 32))  # the middle is green
    found = clip.pixels(image)
    expected = [(value - mean) / std for value, mean, std in zip((0, 1, 0), MEAN, STD, strict=True)]
    torch.testing.assert_close(found[:, 16, 16], torch.tensor(expected))


def test_a_broken_picture_has_no_score(clip_folder, samples):
    Path(samples[1].image).write_bytes(b"none")
    scores = Extras(clip=str(clip_folder)).scores(samples, CAPTIONS)
    assert [value is None for value in scores.each["CLIPScore"]] == [False, True, False]


def test_folders_that_hold_no_clip(tmp_path):
    with pytest.raises(ValueError, match=r"eval.clip: .* holds no CLIP model"):
        Extras(clip=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="not of the type clip"):
        Extras(clip=str(tmp_path))


@pytest.fixture
def objects(tmp_path: Path) -> str:
    file = tmp_path / "instances.json"
    content = {
        "images": [{"id": 0, "file_name": "0.png"}, {"id": 17, "file_name": "1.png"}],
        "annotations": [{"image_id": 0, "category_id": 3}],
        "categories": [
            {"id": 3, "name": "dog"},
            {"id": 4, "name": "bus", "synonyms": ["coach"]},
            {"id": 5, "name": "cat"},
        ],
    }
    file.write_text(json.dumps(content))
    return str(file)


def test_chair_of_annotated_objects(objects, samples):
    scores = Extras(objects=objects).scores(samples, ["a dog and a cat", "a coach and a cat", "a bus"])
    # The references name the cat; the coach is a bus that is not there; the third picture is not annotated.
    assert scores.each["CHAIRs"] == [0.0, 1.0, None]
    assert scores.overall["CHAIRi"] == 1 / 4


def test_bad_objects(tmp_path, objects, samples):
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": []}')
    with pytest.raises(ValueError, match="no instances file of COCO"):
        Extras(objects=str(broken))
    other = [Sample("z.png", "z", "Dry", "", ("a",))]
    with pytest.raises(ValueError, match="annotates none of the images"):
        Extras(objects=objects).scores(other, ["a"])


def test_metrics_of_files_and_packages(tmp_path, monkeypatch, samples):
    file = tmp_path / "mine.py"
    file.write_text("def words(captions, references, images, styles):\n    return [len(c.split()) for c in captions]\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("theirs", "mine:words", extra_scores.GROUP)]
    monkeypatch.setattr(extra_scores, "entry_points", lambda group: points)
    extras = Extras(metrics={"words": f"file:{file}:words", "again": "theirs"})
    assert extras.scores(samples, CAPTIONS).each == {"words": [2, 5, 2], "again": [2, 5, 2]}
    for source, message in (
        ("their", "has a metric their; there are theirs"),
        ("file:nowhere.py:f", "file that is there"),
        (f"file:{file}:other", "cannot be loaded: AttributeError"),
    ):
        with pytest.raises(ValueError, match=message):
            Extras(metrics={"x": source})
    file.write_text("def words(*_):\n    return [1]\n")
    with pytest.raises(ValueError, match="gave 1 numbers for 3 captions"):
        Extras(metrics={"w": f"file:{file}:words"}).scores(samples, CAPTIONS)


def test_they_stand_beside_the_other_scores_with_intervals_and_signatures(tmp_path, clip_folder, objects, samples):
    found = judge(
        samples,
        CAPTIONS,
        ended=None,
        train=None,
        frequency=None,
        folder=RunFolder(tmp_path),
        title="t",
        bootstrap=20,
        scorer="stylecap",
        meteor=False,
        spice=False,
        java_timeout_s=1,
        java_memory_gb=1,
        extras=Extras(clip=str(clip_folder), objects=objects),
    )
    each = [row["scores"]["CLIPScore"] for row in found.predictions]
    assert found.metrics["CLIPScore"] == pytest.approx(sum(each) / 3)
    assert found.metrics["per_style"]["Sweet"]["CLIPScore"] == pytest.approx(each[1])
    assert found.metrics["per_style"]["Sweet"]["CHAIRs"] == 1.0
    assert {"CLIPScore", "RefCLIPScore", "CHAIRs"} <= found.metrics["intervals"].keys()
    signed = found.metrics["signatures"]
    assert signed["CLIPScore"].split("|")[1:] == [f"clip:{clip_folder.name}", "v:1"]
    assert "|tok:ptb|by:stylecap|df:refs|v:1" in signed["CIDEr-D"]


def test_signatures_say_what_a_score_was_made_with():
    references = [["a dog", "b"], ["c"]]
    settings = {"references": references, "tokenizer": "ptb", "scorer": "stylecap", "others": {}}
    found = signatures(["CIDEr-D", "CIDEr", "BLEU-4", "other"], training="0123456789", **settings)  # type: ignore[arg-type]
    refs = reference_signature(references)
    assert found == {
        "CIDEr-D": f"refs:{refs}|tok:ptb|by:stylecap|df:train-01234567|v:1",
        "CIDEr": f"refs:{refs}|tok:ptb|by:stylecap|df:refs|v:1",
        "BLEU-4": f"refs:{refs}|tok:ptb|by:stylecap|v:1",
    }
    assert refs.startswith("1-2-")
    assert reference_signature([["c"], ["b", "a dog"]]) == refs
    assert reference_signature([["c"], ["b", "a cat"]]) != refs
    other = {"signatures": found | {"CIDEr": "refs:x"}}
    assert list(differing([{"signatures": found}, other, {}])) == ["CIDEr"]


def test_compare_warns_where_signatures_differ(tmp_path, caplog):
    for name, signature in (("a", "tok:ptb"), ("b", "tok:characters")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.json").write_text(json.dumps(random_predictions(1)))
        (tmp_path / name / "metrics.json").write_text(json.dumps({"signatures": {"CIDEr": signature}}))
    with caplog.at_level(logging.WARNING, "stylecap"):
        compare_runs([str(tmp_path / "a"), str(tmp_path / "b")], None, 10)
    assert "CIDEr was made in different ways" in caplog.text
