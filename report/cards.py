"""Captions with their photographs: the best, the worst, and some drawn at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from report.contact_sheet import embedded_picture
from report.runs import EvaluatedRun

SEED = 1
_STYLES = 5  # of a random image, at most
_REFERENCES = 3


@dataclass(frozen=True)
class Written:
    """What a run wrote, its CIDEr-D, and the style that the evaluator named (None: it was not asked)."""

    run: str
    text: str
    score: str
    named_style: str | None


@dataclass(frozen=True)
class Request:
    """An image's style with what all runs wrote and some references."""

    style: str
    written: list[Written]
    references: list[str]


@dataclass(frozen=True)
class Card:
    """An image; `picture` is a data URI, None where its file is gone."""

    image: str
    picture: str | None
    requests: list[Request]


def cards(runs: Sequence[EvaluatedRun], number: int) -> dict[str, list[Card]]:
    """Title -> cards: by the first run's CIDEr-D the best and the worst captions, and images drawn at random."""
    first = runs[0].predictions
    order = sorted(range(len(first)), key=lambda row: first[row]["scores"].get("CIDEr-D") or 0.0)
    images = sorted({row["image_id"] for row in first})
    drawn = random.Random(SEED).sample(images, min(number, len(images)))
    rows_of = {image: [row for row, one in enumerate(first) if one["image_id"] == image] for image in drawn}
    found = [_by_request(run) for run in runs]
    return {
        "Best": [_card(runs, found, [row]) for row in order[::-1][:number]],
        "Worst": [_card(runs, found, [row]) for row in order[:number]],
        "At random": [_card(runs, found, rows_of[image][:_STYLES]) for image in drawn],
    }


def _by_request(run: EvaluatedRun) -> dict[tuple[str, str], dict]:
    return {(str(row["image_id"]), row["style"]): row for row in run.predictions}


def _card(runs: Sequence[EvaluatedRun], found: Sequence[dict[tuple[str, str], dict]], rows: Sequence[int]) -> Card:
    chosen = [runs[0].predictions[row] for row in rows]
    requests = []
    for one in chosen:
        written = []
        for run, predictions in zip(runs, found, strict=True):
            other = predictions.get((str(one["image_id"]), one["style"]))
            if other is not None:
                score = other["scores"].get("CIDEr-D")
                shown = "" if score is None else f"{100 * score:.0f}"
                written.append(Written(run.name, other["caption"], shown, other.get("named_style")))
        requests.append(Request(one["style"], written, one["references"][:_REFERENCES]))
    return Card(str(chosen[0]["image_id"]), _picture(chosen[0].get("image")), requests)


def _picture(path: str | None) -> str | None:
    if path is None or not Path(path).is_file():
        return None
    try:
        return embedded_picture(path)[0]
    except ValueError:  # a broken file: the captions are of use all the same
        return None
