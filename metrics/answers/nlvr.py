"""Accuracy and consistency of NLVR2 and NLVR, as the scripts of lil-lab/nlvr (commit 18924841) compute them.

Consistency is the share of sentences that are judged right for every picture shown with them. "True" and "true" are
the same.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

PERMUTATIONS = 6  # pictures of an NLVR example: its three boxes in each order


class NlvrScores(NamedTuple):
    """Shares, 0 to 1."""

    accuracy: float
    consistency: float


def nlvr2_scores(labels: Mapping[str, str], predictions: Mapping[str, str]) -> NlvrScores:
    """Both map identifiers `split-set-pair-sentence` to "True" or "False"; predictions may hold more than labels.

    Raises ValueError for no labels and for a missing prediction.
    """
    return _scores(labels, predictions, nlvr2_sentence)


def nlvr1_scores(labels: Mapping[str, str], predictions: Mapping[str, str]) -> NlvrScores:
    """Of structured representations: identifiers are `n-m`, one an example.

    Raises ValueError for no labels, a missing prediction and one that is not asked for.
    """
    _refuse_surplus(labels, predictions)
    return _scores(labels, predictions, lambda identifier: identifier.split("-")[0])


def nlvr1_image_scores(split: str, labels: Mapping[str, str], predictions: Mapping[str, str]) -> NlvrScores:
    """Of images: labels map `n-m` as before, predictions `split-n-m-k.png`, k from 0 to 5.

    Raises ValueError as `nlvr1_scores` does.
    """
    images = {image: label for identifier, label in labels.items() for image in nlvr1_images(split, identifier)}
    _refuse_surplus(images, predictions)
    return _scores(images, predictions, lambda image: image.split("-")[1])


def nlvr1_images(split: str, identifier: str) -> list[str]:
    """The six pictures of the example `n-m`."""
    return [f"{split}-{identifier}-{number}.png" for number in range(PERMUTATIONS)]


def nlvr2_sentence(identifier: str) -> str:
    """What the pairs shown with one sentence share: the identifier without its third field."""
    split, group, _, sentence = identifier.split("-")
    return f"{split}-{group}-{sentence}"


def _scores(labels: Mapping[str, str], predictions: Mapping[str, str], group: Callable[[str], str]) -> NlvrScores:
    if not labels:
        raise ValueError("no examples to score: give at least one")
    hits: dict[str, list[bool]] = defaultdict(list)
    for identifier, label in labels.items():
        if identifier not in predictions:
            raise ValueError(f"{identifier}: no prediction: answer every example")
        hits[group(identifier)].append(predictions[identifier].lower() == label.lower())
    right = sum(sum(found) for found in hits.values())
    return NlvrScores(right / len(labels), sum(all(found) for found in hits.values()) / len(hits))


def _refuse_surplus(labels: Mapping[str, str], predictions: Mapping[str, str]) -> None:
    surplus = [identifier for identifier in predictions if identifier not in labels]
    if surplus:
        raise ValueError(f"{surplus[0]}: not among the examples ({len(surplus)} such): remove them")
