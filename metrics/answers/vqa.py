"""Accuracy of VQA v2 (GT-Vision-Lab/VQA, commit a013f004): overall, per answer type and per question type.

An answer counts min(1, matches / 3), averaged over the ten ways to leave one annotator out.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from data.questions.answer_text import normalise_answer, strip_punctuation, strip_whitespace

Rule = Literal["official", "openvqa"]
_ENOUGH = 3  # matches for a full score


class Case(NamedTuple):
    """A prediction and the answers to the question, in the order of the annotations.

    `marks` is what else each annotation holds (answer_id, answer_confidence): annotations equal in text and mark count
    as one and leave together. Without it all are different, as they are in files with answer_id.
    """

    prediction: str
    answers: Sequence[str]
    answer_type: str = ""
    question_type: str = ""
    marks: Sequence[Hashable] | None = None


@dataclass(frozen=True)
class VqaScores:
    """`overall` and the tables are percentages of two digits; `each` is 0 to 1, exact, in the order of the cases."""

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    each: tuple[float, ...]


def vqa_scores(cases: Iterable[Case], rule: Rule = "official") -> VqaScores:
    """Scores of all cases. Raises ValueError if there are none, or for one without answers."""
    each: list[float] = []
    answer_types, question_types = defaultdict(list), defaultdict(list)
    for case in cases:
        share = accuracy(case.prediction, case.answers, case.marks, rule)
        each.append(share)
        answer_types[case.answer_type].append(share)
        question_types[case.question_type].append(share)
    if not each:
        raise ValueError("no predictions to score: give at least one question")
    return VqaScores(
        overall=percent(each),
        per_answer_type={name: percent(shares) for name, shares in sorted(answer_types.items())},
        per_question_type={name: percent(shares) for name, shares in sorted(question_types.items())},
        each=tuple(each),
    )


def accuracy(
    prediction: str, answers: Sequence[str], marks: Sequence[Hashable] | None = None, rule: Rule = "official"
) -> float:
    """0 to 1. See `Case` for `marks`.

    "official" normalises prediction and answers where the answers differ, and nothing where they are one string: "Yes"
    scores 0 against ten "yes". "openvqa" is the evaluator that OpenVQA and TRAR ship: the prediction is always
    normalised, the answers lose their punctuation only, and only where they differ.

    Raises ValueError for a question without answers.
    """
    if not answers:
        raise ValueError("a question has no answers to score against: leave it out")
    prepare = {"official": _official, "openvqa": _openvqa}[rule]
    guess, references = prepare(prediction, [strip_whitespace(answer) for answer in answers])
    records = list(zip(references, range(len(references)) if marks is None else marks, strict=True))
    hits = [reference == guess for reference in references]
    total = sum(hits)
    # How many matches leave with an annotation: those among all that are equal to it.
    leaving: dict[tuple[str, Hashable], int] = defaultdict(int)
    for record, hit in zip(records, hits, strict=True):
        leaving[record] += hit
    return sum(min(1.0, (total - leaving[record]) / _ENOUGH) for record in records) / len(records)


def percent(shares: Sequence[float]) -> float:
    """The mean of shares as a percentage of two digits, in the original's order of operations: ties depend on it."""
    return round(100 * sum(shares) / len(shares), 2)


def _official(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    if len(set(answers)) == 1:
        return strip_whitespace(prediction), answers
    return _all(normalise_answer, prediction, answers)


def _openvqa(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    references = answers if len(set(answers)) == 1 else [strip_punctuation(answer) for answer in answers]
    return normalise_answer(prediction), references


def _all(change: Callable[[str], str], prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    return change(prediction), [change(answer) for answer in answers]
