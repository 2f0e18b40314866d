import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import Split, read_split
from data.doctor import drop_bad, examine, in_order, look_at_images
from data.samples import Row
from tests.conftest import SHARED, needs_shared


def _picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def _split(folder: Path, *rows: tuple[str, str, str], styles: tuple[str, ...] = ("Sweet", "Cynical")) -> Split:
    return Split("train", styles, (Row(str(folder / name), name, style, text) for name, style, text in rows))


@pytest.fixture
def planted(tmp_path) -> Split:
    """One fault of each kind, and two captions without any."""
    for seed, name in enumerate(("good.jpg", "cut.jpg", "cut.png", "style.jpg")):
        _picture(tmp_path / name, seed)
    for name in ("cut.jpg", "cut.png"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "good.jpg").read_bytes())
    return _split(
        tmp_path,
        ("good.jpg", "Sweet", "how lovely , this is !"),
        ("good.jpg", "Sweet", " ... !"),
        ("good.jpg", "Cynical", "one two three four five six"),
        ("gone.jpg", "Sweet", "a"),
        ("gone.jpg", "Cynical", ""),
        ("cut.jpg", "Sweet", "a b"),
        ("cut.png", "Sweet", "a b"),
        ("text.jpg", "Sweet", "a b"),
        ("copy.jpg", "Sweet", "a b c"),
        ("style.jpg", "Sweeet", "a b"),
        ("style.jpg", "Qqq", "a b"),
        ("style.jpg", "cynicall", "a b"),
    )


def test_every_planted_fault_is_counted(planted):
    report = examine(planted, max_words=5)
    assert report.faults == {"missing": 1, "truncated": 3, "empty": 2, "unknown_style": 3}
    assert report.warnings == {"too_long": 1, "duplicate": 1}
    assert (report.captions, report.images) == (12, 7)
    assert report.styles == {"Sweet": 7, "Cynical": 2, "Sweeet": 1, "Qqq": 1, "cynicall": 1}
    assert report.lengths == {0: 2, 1: 1, 2: 6, 3: 1, 4: 1, 6: 1}
    assert report.unknown_styles == {"Sweeet": ["Sweet"], "Qqq": [], "cynicall": ["Cynical"]}


@pytest.mark.parametrize("ranks", [2, 3, 20])
def test_the_shares_of_many_ranks_make_the_report_of_one(planted, monkeypatch, ranks):
    whole = examine(planted, max_words=5)
    shares = [look_at_images(planted, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert max(map(len, shares)) == -(-planted.n_images // ranks)
    monkeypatch.setattr("data.doctor.decode", lambda *_, **__: pytest.fail("an image is decoded again"))
    assert examine(planted, max_words=5, looks=in_order(shares)).to_json() == whole.to_json()


def test_reports_name_the_culprits(planted):
    report = examine(planted, max_words=5)
    text = report.to_text()
    assert json.loads(json.dumps(report.to_json()))["examples"] == report.examples
    for expected in (
        "FAULT missing images: 1",
        "gone.jpg",
        "cut.jpg: image file is truncated",
        "text.jpg: not an image",
        "'Sweeet' (1 captions), nearest: Sweet",
        "'Qqq' (1 captions), nearest: none",
        "good.jpg, Sweet: ' ... !'",
        "warning captions of more than 5 words, to be cut: 1",
        "copy.jpg = ",
    ):
        assert expected in text
    assert "no faults" not in text


def test_examples_are_few_however_many_faults(tmp_path):
    report = examine(_split(tmp_path, *((f"{k}.jpg", "Sweet", "a") for k in range(30))), max_words=5)
    assert report.faults == {"missing": 30}
    assert len(report.examples["missing"]) == 5


def test_dropping_leaves_what_is_sound_and_says_what_it_cost(planted):
    sound, skipped = drop_bad(planted, examine(planted, max_words=5))
    assert [(s.image_id, s.caption) for s in sound] == [
        ("good.jpg", "how lovely , this is !"),
        ("good.jpg", "one two three four five six"),
        ("copy.jpg", "a b c"),
    ]
    # The empty caption of gone.jpg went with its image.
    assert skipped == {"missing": 2, "truncated": 3, "empty": 1, "unknown_style": 3}
    assert len(planted) - len(sound) == sum(skipped.values())
    assert sound.styles == planted.styles
    assert examine(sound, max_words=5).faults == {}


def test_a_sound_split_is_returned_as_it_is(tmp_path):
    _picture(tmp_path / "a.png", 0)
    split = _split(tmp_path, ("a.png", "Sweet", "a b"))
    report = examine(split, max_words=2)
    assert (report.faults, report.warnings) == ({}, {})
    assert "no faults" in report.to_text()
    assert "styles without captions: 1 (Cynical)" in report.to_text()
    assert drop_bad(split, report) == (split, {})


def test_nothing_left_is_an_error(tmp_path):
    split = _split(tmp_path, ("gone.jpg", "Sweet", "a"))
    with pytest.raises(ValueError, match="every caption is at fault"):
        drop_bad(split, examine(split, max_words=5))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0, 3, 40, -600, -100])
def test_a_file_cut_anywhere_is_found(tmp_path, suffix, kept):
    path = tmp_path / f"a.{suffix}"
    _picture(path, 0, (224, 224))
    path.write_bytes(path.read_bytes()[:kept])
    assert examine(_split(tmp_path, (path.name, "Sweet", "a")), max_words=5).faults == {"truncated": 1}


def test_images_of_too_many_pixels_are_faults(tmp_path, monkeypatch):
    _picture(tmp_path / "a.png", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        report = examine(_split(tmp_path, ("a.png", "Sweet", "a")), max_words=5)
    assert report.faults == {"truncated": 1}


@needs_shared
def test_real_photographs_are_examined_quickly():
    folder = SHARED / "data/flickrstyle"
    split = read_split(
        "val",
        format="personality",
        annotations=folder / "val.json",
        image_dir=folder / "images",
        styles=folder / "personalities.txt",
    )
    start = time.perf_counter()
    report = examine(split, max_words=20)
    assert time.perf_counter() - start < 5  # 499 images in about 0.3 s on an idle machine
    assert report.faults == {}
    assert report.images == 499
    assert sum(report.lengths.values()) == sum(report.styles.values()) == len(split)
