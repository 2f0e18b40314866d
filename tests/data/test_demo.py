import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocoevalcap.cider.cider import Cider

from data import Split, read_split, read_styles
from data.demo import render, scenes, split_sizes
from data.demo.scenes import COLOURS, KINDS, PLACES, RELATIONS, SCENES, Scene, scene
from tests.conftest import ROOT

IMAGES, SEED = 420, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    render(path, images=IMAGES, seed=SEED)
    return path


@pytest.fixture(scope="module")
def splits(folder) -> dict[str, Split]:
    return {
        name: read_split(
            name,
            format="demo",
            annotations=folder / f"{name}.json",
            image_dir=folder / "images",
            styles=folder / "personalities.txt",
        )
        for name in ("train", "val", "test")
    }


def _contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def test_counts(folder, splits):
    assert split_sizes(IMAGES) == {"train": 360, "val": 30, "test": 30}
    assert {name: split.n_images for name, split in splits.items()} == split_sizes(IMAGES)
    styles = read_styles(folder / "personalities.txt")
    assert len(styles) >= 5
    assert "Factual" in styles
    for split in splits.values():
        assert len(split) == split.n_images * len(styles) * 5
        assert all(len(set(request.references)) == 5 for request in split.requests())
    picture = Image.open(splits["train"][0].image)
    assert (picture.size, picture.mode) == ((96, 96), "RGB")


def test_another_process_makes_the_same_files_and_another_seed_does_not(folder, tmp_path):
    code = "import sys; from data.demo import render; render(sys.argv[1], images=42, seed=int(sys.argv[2]))"
    for seed in (SEED, 8):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / str(seed)), str(seed)], cwd=ROOT, check=True)
    render(tmp_path / "here", images=42, seed=SEED)
    assert _contents(tmp_path / "here") == _contents(tmp_path / str(SEED))
    assert set(_contents(tmp_path / "8").values()).isdisjoint(
        digest for name, digest in _contents(tmp_path / "here").items() if name.endswith(".jpg")
    )


def test_rendering_again_touches_nothing_and_an_interrupted_rendering_is_repeated(tmp_path):
    render(tmp_path, images=28, seed=SEED)
    before = _contents(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.j*")}
    render(tmp_path, images=28, seed=SEED)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.j*")} == times
    (tmp_path / "demo.json").write_text('{"complete": false}')
    (tmp_path / "val.json").unlink()
    (tmp_path / "images" / "stray.jpg").write_bytes(b"")
    render(tmp_path, images=28, seed=SEED)
    assert _contents(tmp_path) == before
    render(tmp_path, images=42, seed=SEED)
    assert len(list((tmp_path / "images").iterdir())) == 42


def test_files_of_somebody_else_are_not_overwritten(tmp_path):
    (tmp_path / "train.json").write_text("mine")
    with pytest.raises(ValueError, match=r"train\.json: the demo data would overwrite it"):
        render(tmp_path, images=28, seed=SEED)
    assert (tmp_path / "train.json").read_text() == "mine"
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("images", [0, 13, SCENES + 1])
def test_a_number_of_images_out_of_range_is_an_error(tmp_path, images):
    with pytest.raises(ValueError, match=r"data\.demo_images"):
        render(tmp_path, images=images, seed=SEED)


def test_every_number_is_another_scene():
    assert SCENES == 8 * 7 * 6 * 5 * 4 * 4
    everything = {scene(number) for number in range(SCENES)}
    assert len(everything) == SCENES
    assert all(s.subject != s.other and s.subject_colour != s.other_colour for s in everything)


def test_no_scene_and_no_image_occurs_twice(folder):
    assert len(set(scenes(IMAGES, SEED))) == IMAGES
    digests = {sha256(path.read_bytes()).digest() for path in (folder / "images").iterdir()}
    assert len(digests) == IMAGES


_SAID = {"left of": "left", "right of": "left", "above": "above", "below": "above"}
_SAID |= {"on top of": "on", "under": "on", "in front of": "front", "behind": "front"}
_BACKWARDS = ("right of", "below", "under", "behind")


def test_captions_agree_with_their_scene(splits):
    shown = iter(scenes(IMAGES, SEED))
    things = re.compile(rf"({'|'.join(COLOURS)}) ({'|'.join(KINDS)})")
    said: Counter[str] = Counter()
    for split in splits.values():
        for j, expected in zip(range(split.n_images), shown, strict=False):
            for row in split.image_rows(j):
                caption = split[row].caption
                named = things.findall(caption)
                relations = [words for words in _SAID if f" {words} " in caption]
                if any(words in _BACKWARDS for words in relations):
                    named.reverse()
                assert named == [
                    (expected.subject_colour, expected.subject),
                    (expected.other_colour, expected.other),
                ], caption
                assert [_SAID[words] for words in relations] in ([], [expected.relation]), caption
                places = [place for place in PLACES if re.search(rf"(the|at) {place}\b", caption)]
                assert places in ([], [expected.place]), caption
                said.update(relations + places)
    assert set(said) == {*_SAID, *PLACES}
    assert {s.relation for s in scenes(IMAGES, SEED)} == set(RELATIONS)


def test_captions_are_short_and_the_vocabulary_is_small(splits):
    captions = [sample.caption for split in splits.values() for sample in split]
    assert all(6 <= len(caption.split()) <= 14 for caption in captions)
    assert 60 < len({word for caption in captions for word in caption.split()}) < 300


def test_the_words_tell_the_style(splits):
    """Naive Bayes over words, with add-one smoothing, trained on train and asked about val."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in splits["train"]:
        counts[sample.style].update(sample.caption.split())
    vocabulary = len(set().union(*counts.values()))

    def likelihood(style: str, caption: str) -> float:
        total = math.log(counts[style].total() + vocabulary)
        return sum(math.log(counts[style][word] + 1) - total for word in caption.split())

    right = [max(counts, key=lambda k: likelihood(k, s.caption)) == s.style for s in splits["val"]]
    assert np.mean(right) > 0.95


def _cider(requests, candidates) -> float:
    """CIDEr, in pycocoevalcap's scale, of one candidate for each request, whose first reference is not used."""
    references = {i: list(request.references[1:]) for i, request in enumerate(requests)}
    score, _ = Cider().compute_score(references, {i: [caption] for i, caption in enumerate(candidates)})
    return float(score)


def test_image_and_style_are_needed(splits):
    """True captions score well beyond those of other images, those in other styles, and any constant one."""
    val = splits["val"]
    requests = val.requests()
    styles = len(val.styles)
    own = [request.references[0] for request in requests]
    other_image = own[styles:] + own[:styles]  # requests go image by image, styles in the same order in each
    other_style = [own[i - i % styles + (i + 1) % styles] for i in range(len(own))]
    truth = _cider(requests, own)
    assert truth > 2.5
    assert _cider(requests, other_image) < 0.6 * truth
    assert _cider(requests, other_style) < 0.6 * truth
    assert len({sample.caption for sample in val}) > 0.9 * len(val)


def test_the_picture_shows_the_scene(splits):
    """The objects' paint is where the relation puts it, and one scene is drawn in many ways."""
    from random import Random

    from data.demo.drawing import draw

    shown = Scene("star", "red", "house", "blue", "left", "meadow")
    pictures = [np.asarray(draw(shown, Random(k))).astype(int) for k in range(20)]
    for pixels in pictures:
        red = (pixels[..., 0] - pixels[..., 1:].max(-1)) > 90
        blue = (pixels[..., 2] - pixels[..., :2].max(-1)) > 90
        assert red.sum() > 150
        assert blue.sum() > 150
        assert np.nonzero(red)[1].mean() + 20 < np.nonzero(blue)[1].mean()
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_no_torch_is_needed():
    code = "import sys, data.demo, data.doctor; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_annotations_are_in_personality_captions_form(folder):
    for record in json.loads((folder / "val.json").read_text()):
        assert list(record) == ["personality", "image_hash", "comment", "additional_comments"]
        assert (folder / "images" / f"{record['image_hash']}.jpg").is_file()
