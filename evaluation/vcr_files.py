"""VCR's leaderboard file: a CSV with the probability of every choice of every question.

Its columns are `annot_id`, `answer_0` to `answer_3`, and for each answer i that might be the right one
`rationale_conditioned_on_a{i}_0` to `_3`. A file of one model has its own part of them.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import replacing
from data.questions.files import PathLike, read_text
from data.questions.vcr import CHOICES, read_vcr_rationale
from metrics.answers.vcr import vcr_scores

ID = "annot_id"
ANSWERS = tuple(f"answer_{choice}" for choice in range(CHOICES))
REASONS = tuple(tuple(f"rationale_conditioned_on_a{a}_{choice}" for choice in range(CHOICES)) for a in range(CHOICES))
_SHOWN = 9  # digits of a probability: all that float32 has


@dataclass(frozen=True)
class ChoiceShares:
    """Probabilities by question id.

    Attributes:
        answers: of the four answers; None where a file has none.
        reasons: for each of the four answers, of the four reasons; None where a file has none.
    """

    answers: Mapping[str, Sequence[float]] | None = None
    reasons: Mapping[str, Sequence[Sequence[float]]] | None = None


def write_vcr(path: PathLike, ids: Sequence[str], shares: ChoiceShares) -> None:
    """Writes what there is of the leaderboard's file, in the order of `ids`.

    Raises ValueError, and writes nothing, for an id without probabilities.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    groups = [ANSWERS] if shares.answers is not None else []
    writer.writerow([ID, *(name for group in (*groups, *(REASONS if shares.reasons else ())) for name in group)])
    for key in ids:
        values: list[float] = []
        for part in (shares.answers, shares.reasons):
            if part is not None and key not in part:
                raise ValueError(f"question {key} has no probabilities: predict the same split with both models")
        values += list(shares.answers[key]) if shares.answers is not None else []
        values += [share for row in shares.reasons[key] for share in row] if shares.reasons is not None else []
        writer.writerow([key, *(f"{value:.{_SHOWN}g}" for value in values)])
    with replacing(Path(path)) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def read_vcr_shares(path: PathLike) -> ChoiceShares:
    """The parts of the leaderboard's file that are there.

    Raises ValueError, with file and line, for a file of another form, an id that is there twice, and no number.
    """
    rows = list(csv.reader(io.StringIO(read_text(path))))
    header = rows[0] if rows else []
    places = {name: column for column, name in enumerate(header)}
    with_answers = all(name in places for name in ANSWERS)
    with_reasons = all(name in places for group in REASONS for name in group)
    if ID not in places or not (with_answers or with_reasons):
        raise ValueError(
            f"{path}: no file of VCR's leaderboard: its columns are {ID}, {ANSWERS[0]} and so on, {REASONS[0][0]} and "
            "so on"
        )
    answers: dict[str, list[float]] = {}
    reasons: dict[str, list[list[float]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}: line {number}"
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} values for {len(header)} columns: write the file again")
        key = row[places[ID]]
        if key in answers or key in reasons:
            raise ValueError(f"{where}: {key} is there twice: answer each question once")
        if with_answers:
            answers[key] = _numbers(where, [row[places[name]] for name in ANSWERS])
        if with_reasons:
            reasons[key] = [_numbers(where, [row[places[name]] for name in group]) for group in REASONS]
    return ChoiceShares(answers if with_answers else None, reasons if with_reasons else None)


def score_vcr(references: PathLike, predictions: PathLike) -> dict[str, Any]:
    """`Q->A`, `QA->R` and `Q->AR`, as far as the file has both parts; `references` are VCR's JSON lines with labels."""
    answer_labels: dict[str, int] = {}
    reason_labels: dict[str, int] = {}
    for question in read_vcr_rationale(references):
        key, extra = str(question.question_id), question.extra
        if extra["answer_label"] is None or extra["rationale_label"] is None:
            raise ValueError(f"{references}: question {key} has no labels: score a split that has them")
        answer_labels[key], reason_labels[key] = extra["answer_label"], extra["rationale_label"]
    shares = read_vcr_shares(predictions)
    reasons = shares.reasons
    if reasons is not None:  # what is read after the right answer
        reasons = {key: reasons[key][label] for key, label in answer_labels.items() if key in reasons}  # type: ignore
    try:
        found = vcr_scores(answer_labels, reason_labels, shares.answers, reasons)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{predictions}: {error}") from None
    return found.named() | {"questions": len(answer_labels)}


def _numbers(where: str, texts: Sequence[str]) -> list[float]:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{where}: a probability is no number ({', '.join(texts)}): write the file again")
    return values
