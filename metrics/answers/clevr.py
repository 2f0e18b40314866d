"""Accuracy of CLEVR by question family, as OpenVQA and TRAR report it.

A question belongs to the family of the last function of its program.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

# `equal_integer` is among the attributes there; CLEVR's own paper has it under numbers: families="paper".
_FAMILIES = {
    "count": "Count",
    "exist": "Exist",
    **dict.fromkeys(("greater_than", "less_than"), "Compare_Numbers"),
    **dict.fromkeys(("query_color", "query_material", "query_shape", "query_size"), "Query_Attribute"),
    **dict.fromkeys(
        ("equal_integer", "equal_color", "equal_material", "equal_shape", "equal_size"), "Compare_Attribute"
    ),
}
_PAPER = _FAMILIES | {"equal_integer": "Compare_Numbers"}
OVERALL = "Overall"
ORDER = (OVERALL, "Count", "Exist", "Compare_Numbers", "Query_Attribute", "Compare_Attribute")


class FamilyScore(NamedTuple):
    """Right answers of all; `percent` is not rounded."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.correct / self.total


def clevr_scores(
    predictions: Iterable[str], answers: Iterable[str], functions: Iterable[str], *, families: str = "openvqa"
) -> dict[str, FamilyScore]:
    """Family -> score, "Overall" first, families without questions left out. The three have one entry a question.

    Raises ValueError for no questions, lists of different lengths and an unknown function or `families`.
    """
    names = {"openvqa": _FAMILIES, "paper": _PAPER}.get(families)
    if names is None:
        raise ValueError(f"families is {families!r}: choose openvqa or paper")
    counts: dict[str, list[int]] = {name: [0, 0] for name in ORDER}
    for number, (prediction, answer, function) in enumerate(_together(predictions, answers, functions)):
        if function not in names:
            raise ValueError(f"question {number}: unknown function {function!r}: use one of {', '.join(names)}")
        for name in (OVERALL, names[function]):
            counts[name][0] += prediction == answer
            counts[name][1] += 1
    if not counts[OVERALL][1]:
        raise ValueError("no questions to score: give at least one")
    return {name: FamilyScore(*found) for name, found in counts.items() if found[1]}


def clevr_report(scores: Mapping[str, FamilyScore]) -> str:
    """The text that the original writes: a line a family and an empty one."""
    lines = (f"{name} : {score.correct} / {score.total} = {score.percent:.2f}\n" for name, score in scores.items())
    return "".join(lines) + "\n"


def _together(*columns: Iterable[str]) -> list[tuple[str, ...]]:
    lists = [list(column) for column in columns]
    if len({len(column) for column in lists}) > 1:
        lengths = ", ".join(str(len(column)) for column in lists)
        raise ValueError(f"predictions, answers and functions are of different lengths ({lengths}): one a question")
    return list(zip(*lists, strict=True))
