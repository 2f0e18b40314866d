"""The classifier of styles: what it learns, what it keeps, what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import read_split
from metrics.style_classifier import StyleClassifier, fingerprint, normal_text
from rewards.kept_classifier import FORMAT, half_of, load, of_split, save
from tests.conftest import SHARED, needs_shared
from tests.rewards.test_rewards import split_of

TEXTS = ["what a sweet dog", "my lovely cat", "another boring dog", "a dull cat", "the happy joke dog", "a funny cat"]
STYLES = ["Sweet", "Sweet", "Cynical", "Cynical", "Funny", "Funny"]


@pytest.fixture(scope="module")
def classifier() -> StyleClassifier:
    return StyleClassifier.fit(TEXTS, STYLES, features="words")


def test_probabilities_sum_to_one_and_name_the_style(classifier: StyleClassifier):
    scores = classifier.log_probabilities([*TEXTS, "", "zebra"])
    assert scores.shape == (8, 3)
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, atol=1e-12)
    assert [classifier.styles[row] for row in scores[:6].argmax(1)] == STYLES


def test_margins_compare_with_the_likeliest_other(classifier: StyleClassifier):
    scores = classifier.log_probabilities(["a sweet dull thing"])[0]
    own = {style: classifier.margins(["a sweet dull thing"], [style])[0] for style in classifier.styles}
    for column, style in enumerate(classifier.styles):
        others = np.delete(scores, column)
        assert own[style] == pytest.approx(scores[column] - others.max())
    assert sum(margin > 0 for margin in own.values()) == 1


def test_case_and_punctuation_tell_nothing(classifier: StyleClassifier):
    plain, marked = classifier.log_probabilities(["what a sweet dog", "What a SWEET dog!!!"])
    assert np.array_equal(plain, marked)
    assert normal_text("It's  A Dog.") == "its a dog"


def test_styles_count_the_same_however_many_captions_they_have():
    texts = ["dog"] * 95 + ["a"] * 5 + ["dog"] * 5 + ["a"] * 5
    styles = ["Common"] * 100 + ["Rare"] * 10
    fitted = StyleClassifier.fit(texts, styles, features="words")
    # In the style Rare the word "a" is ten times as frequent as in Common.
    assert fitted.margins(["a"], ["Rare"])[0] > 0


def test_two_styles_are_symmetric():
    fitted = StyleClassifier.fit(TEXTS[:4], STYLES[:4], features="characters")
    sweet, cynical = fitted.margins(["a sweet dog"] * 2, ["Sweet", "Cynical"])
    assert sweet == pytest.approx(-cynical)
    assert sweet > 0


@pytest.mark.parametrize("features", ["words", "characters"])
def test_saved_and_loaded_it_is_the_same(features, tmp_path: Path):
    fitted = StyleClassifier.fit(TEXTS, STYLES, features=features)
    save(fitted, tmp_path / "c.npz")
    loaded = load(tmp_path / "c.npz")
    assert (loaded.styles, loaded.features, loaded.fingerprint) == (fitted.styles, features, fitted.fingerprint)
    assert np.array_equal(loaded.log_probabilities(TEXTS), fitted.log_probabilities(TEXTS))
    assert np.array_equal(StyleClassifier.fit(TEXTS, STYLES, features=features).weights, fitted.weights)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 torn"])
def test_other_files_are_refused_by_name(content, tmp_path: Path):
    file = tmp_path / "c.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="c.npz is not a style classifier"):
        load(file)


def test_another_format_is_refused(tmp_path: Path):
    np.savez(tmp_path / "c.npz", format=FORMAT + 1)
    with pytest.raises(ValueError, match=f"format is {FORMAT + 1}, this program writes {FORMAT}"):
        load(tmp_path / "c.npz")


def test_one_style_is_not_enough():
    with pytest.raises(ValueError, match="captions of 1 style"):
        StyleClassifier.fit(["a", "b"], ["Sweet", "Sweet"], features="words")


def test_halves_part_the_images_and_stay_the_same():
    split = split_of({f"i{i}": {"Sweet": ["a sweet dog"], "Dry": ["a dog"]} for i in range(60)})
    images = [{sample.image_id for sample in half_of(split, half)} for half in (0, 1)]
    assert images[0] | images[1] == {f"i{i}" for i in range(60)}
    assert not images[0] & images[1]
    assert 15 < len(images[0]) < 45
    fewer = split.subset([f"i{i}" for i in range(20)])
    assert {sample.image_id for sample in half_of(fewer, 0)} == images[0] & {f"i{i}" for i in range(20)}


def test_it_is_fitted_again_when_the_captions_changed(tmp_path: Path):
    first = split_of({f"i{i}": {"Sweet": ["a sweet dog"], "Dry": ["a dog"]} for i in range(20)})
    other = split_of({f"i{i}": {"Sweet": ["a sweet cat"], "Dry": ["a dog"]} for i in range(20)})
    file = tmp_path / "c.npz"
    of_split(file, first, half=0, features="words")
    written = file.stat().st_mtime_ns
    of_split(file, first, half=0, features="words")
    assert file.stat().st_mtime_ns == written
    assert of_split(file, first, half=1, features="words").fingerprint != fingerprint([], [])
    again = of_split(file, other, half=0, features="words")
    samples = half_of(other, 0)
    assert again.fingerprint == fingerprint([s.caption for s in samples], [s.style for s in samples])
    file.write_bytes(b"torn")
    assert of_split(file, other, half=0, features="words").fingerprint == again.fingerprint


def test_two_hundred_and_fifteen_styles():
    styles = [f"Style {i}" for i in range(215)]
    texts = [f"a dog that is word{i}" for i in range(215)] * 2
    fitted = StyleClassifier.fit(texts, styles * 2, features="words")
    assert (fitted.margins(texts[:215], styles) > 0).mean() > 0.95


@needs_shared
@pytest.mark.parametrize(("half", "features"), [(0, "words"), (1, "characters")])
def test_human_captions_are_told_apart(half, features, tmp_path: Path):
    """Of 499 unseen images; a guess is right in a third of the cases (styles weighted alike)."""
    folder = SHARED / "data" / "flickrstyle"
    common: dict[str, Any] = {
        "format": "personality",
        "image_dir": str(folder / "images"),
        "styles": str(folder / "personalities.txt"),
    }
    train, val = (read_split(name, annotations=str(folder / f"{name}.json"), **common) for name in ("train", "val"))
    fitted = of_split(tmp_path / "c.npz", train, half=half, features=features)
    recalls = []
    for style in fitted.styles:
        texts = [sample.caption for sample in val if sample.style == style]
        recalls.append((fitted.margins(texts, [style] * len(texts)) > 0).mean())
    assert np.mean(recalls) > 0.55
