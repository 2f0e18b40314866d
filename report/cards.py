"""Predictions with their pictures: the best, the worst, and some drawn at random."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from report.card import Card
from report.contact_sheet import embedded_picture
from report.runs import EvaluatedRun

SEED = 1
_REQUESTS = 5  # of a random image, at most
_REFERENCES = 3
Describe = Callable[[Mapping[str, Any]], Card]


@dataclass(frozen=True)
class Written:
    """What a run predicted, its score, and what else is known of it."""

    run: str
    text: str
    score: str
    note: str


@dataclass(frozen=True)
class Request:
    """What was asked about an image, what all runs predicted, and some references."""

    heading: str
    written: list[Written]
    references: list[str]


@dataclass(frozen=True)
class Picture:
    """An image and what was asked about it; `picture` is a data URI, None where its file is gone."""

    image: str
    picture: str | None
    requests: list[Request]


def cards(runs: Sequence[EvaluatedRun], number: int, describe: Describe) -> dict[str, list[Picture]]:
    """Title -> pictures: by the first run's scores the best and the worst predictions, and images drawn at random."""
    first = runs[0].predictions
    scores = [describe(row).score or 0.0 for row in first]
    order = sorted(range(len(first)), key=lambda row: scores[row])
    images = sorted({row["image_id"] for row in first})
    drawn = random.Random(SEED).sample(images, min(number, len(images)))
    rows_of = {image: [row for row, one in enumerate(first) if one["image_id"] == image] for image in drawn}
    found = [_by_request(run, describe) for run in runs]

    def picture(rows: Sequence[int]) -> Picture:
        return _picture(runs, found, [first[row] for row in rows], describe)

    return {
        "Best": [picture([row]) for row in order[::-1][:number]],
        "Worst": [picture([row]) for row in order[:number]],
        "At random": [picture(rows_of[image][:_REQUESTS]) for image in drawn],
    }


def _by_request(run: EvaluatedRun, describe: Describe) -> dict[tuple[str, str], Card]:
    return {(str(row["image_id"]), (card := describe(row)).heading): card for row in run.predictions}


def _picture(
    runs: Sequence[EvaluatedRun],
    found: Sequence[dict[tuple[str, str], Card]],
    chosen: Sequence[Mapping[str, Any]],
    describe: Describe,
) -> Picture:
    requests = []
    for row in chosen:
        asked = describe(row)
        written = []
        for run, predictions in zip(runs, found, strict=True):
            card = predictions.get((str(row["image_id"]), asked.heading))
            if card is not None:
                shown = "" if card.score is None else f"{card.score:.0f}"
                written.append(Written(run.name, card.text, shown, card.note))
        requests.append(Request(asked.heading, written, list(asked.references[:_REFERENCES])))
    return Picture(str(chosen[0]["image_id"]), _embedded(describe(chosen[0]).image), requests)


def _embedded(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return embedded_picture(path)[0]
    except ValueError:  # missing or broken: the predictions are of use all the same
        return None
