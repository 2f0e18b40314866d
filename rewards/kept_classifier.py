"""Classifiers of style as a run keeps them: one half of the training images for the reward, the other for the judge."""

import hashlib
import logging
from pathlib import Path

import numpy as np

from data.files import replacing
from data.run_folder import RunFolder
from data.samples import Sample, Split
from metrics.style_classifier import Features, StyleClassifier, fingerprint

LOGGER = logging.getLogger("stylecap")
FORMAT = 1  # of the saved file; raise it when what is saved, or how text becomes features, changes


def reward_classifier(run: RunFolder, train: Split) -> StyleClassifier:
    """What the reward "style" asks: words of one half of the training images."""
    return of_split(run.style_reward, train, half=0, features="words")


def style_evaluator(run: RunFolder, train: Split) -> StyleClassifier | None:
    """What judges styles: other features and the other half of the images, for nobody is a judge in his own cause.

    None where its half has fewer than two styles.
    """
    styles = len({sample.style for sample in half_of(train, 1)})
    if styles < 2:
        if len({sample.style for sample in train}) > 1:
            LOGGER.warning("styles are not judged: the half of the training images for that has captions of %d", styles)
        return None
    return of_split(run.style_evaluator, train, half=1, features="characters")


def of_split(path: Path, split: Split, *, half: int, features: Features) -> StyleClassifier:
    """The classifier of one half of a split's images: read from `path`, or fitted and written there.

    A file of other captions, other features or another version is replaced.
    """
    samples = half_of(split, half)
    texts, styles = [sample.caption for sample in samples], [sample.style for sample in samples]
    if path.exists():
        try:
            known = load(path)
        except ValueError as error:
            LOGGER.warning("%s; it is fitted anew", error)
        else:
            if known.features == features and known.fingerprint == fingerprint(texts, styles):
                return known
    fitted = StyleClassifier.fit(texts, styles, features=features)
    save(fitted, path)
    return fitted


def half_of(split: Split, half: int) -> list[Sample]:
    """The samples of one half (0 or 1) of a split's images; an image's half depends on its id alone."""
    return [sample for sample in split if hashlib.sha256(sample.image_id.encode()).digest()[0] % 2 == half]


def save(classifier: StyleClassifier, path: Path) -> None:
    """Write an .npz file of plain arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            format=FORMAT,
            styles=np.array(classifier.styles),
            features=classifier.features,
            weights=classifier.weights,
            bias=classifier.bias,
            fingerprint=classifier.fingerprint,
        )


def load(path: Path) -> StyleClassifier:
    """Read what `save` wrote; runs nothing that a file could hold. ValueError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != FORMAT:
                raise ValueError(f"its format is {file['format']}, this program writes {FORMAT}")
            styles = [str(style) for style in file["styles"]]
            parts = file["weights"], file["bias"], str(file["fingerprint"])
            return StyleClassifier(styles, str(file["features"]), *parts)  # type: ignore[arg-type]
    except Exception as error:  # a broken archive raises what zipfile and zlib like
        raise ValueError(f"{path} is not a style classifier: {error}") from error
