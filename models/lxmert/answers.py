"""Answers of LXMERT: how they are compared, their lists, and heads that move from one list to another."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.reading import load_json

_ARTICLES = ("a ", "an ", "the ")
_NUMBERS = "one two three four five six seven eight nine ten".split()
_SPELLINGS = {word: str(number + 1) for number, word in enumerate(_NUMBERS)} | {"grey": "gray"}


def normalise_answer(answer: str) -> str:
    """An answer as LXMERT's joint list of VQA, GQA and Visual7W writes it.

    Lower case, without a full stop at the end and without a leading "a", then "an", then "the"; ten numbers are digits,
    "grey" is "gray".
    """
    answer = answer.lower()
    if answer.endswith("."):
        answer = answer[:-1].strip()
    for article in _ARTICLES:
        if answer.startswith(article):
            answer = answer[len(article) :].strip()
    return _SPELLINGS.get(answer, answer)


def joint_answers(entries: Iterable[Mapping[str, Any]], sources: Iterable[str] | None = None) -> list[str]:
    """The answers of LXMERT's `all_ans.json`, of which each entry is `{"ans": ..., "dsets": [...]}`.

    `sources` ("vqa", "gqa", "visual7w") keeps those that one of them uses; None keeps all, as public checkpoints do.
    """
    wanted = None if sources is None else set(sources)
    return [entry["ans"] for entry in entries if wanted is None or wanted & set(entry["dsets"])]


def clean_label(label: Mapping[str, float], ids: Mapping[str, int]) -> dict[int, float]:
    """A label's answers as ids of the joint list; those that are not in it are left out."""
    found = {ids[name]: score for answer, score in label.items() if (name := normalise_answer(answer)) in ids}
    return found


def matching_rows(answers: Sequence[str], source: Sequence[str]) -> list[int | None]:
    """For each of `answers` its place in another list, by normalised answer; None where that lacks it."""
    exact = {answer: row for row, answer in reversed(list(enumerate(source)))}
    loose = {normalise_answer(answer): row for row, answer in reversed(list(enumerate(source)))}
    rows = []
    for answer in answers:
        name = normalise_answer(answer)
        rows.append(exact.get(name, exact.get(answer, loose.get(name))))
    return rows


def moved_rows(weight: Tensor, bias: Tensor, rows: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """The last layer [answers, width] and [answers] of a head for another list: row by row, 0 where there is none."""
    new_weight = weight.new_zeros(len(rows), weight.shape[1])
    new_bias = bias.new_zeros(len(rows))
    known = [(to, row) for to, row in enumerate(rows) if row is not None]
    if known:
        to, of = (torch.tensor(places) for places in zip(*known, strict=True))
        new_weight[to], new_bias[to] = weight[of], bias[of]
    return new_weight, new_bias


def check_answers(answers: Sequence[str], head_size: int) -> None:
    """See that a list of answers is the one that a head was made for.

    Raises:
        ValueError: it has another number of answers, or repeats one.
    """
    if len(answers) != head_size:
        raise ValueError(
            f"the answer list has {len(answers)} answers, but the model's head scores {head_size}: "
            "use the list that the model was trained with, or move its head to this one (source_answers)"
        )
    if len(set(answers)) < len(answers):
        repeated = next(answer for answer in answers if list(answers).count(answer) > 1)
        raise ValueError(f"the answer list holds {repeated!r} more than once")


def read_answers(path: str | Path) -> list[str]:
    """The answers of a JSON file in the order of their ids: a list of texts, or LXMERT's `all_ans.json`.

    Raises:
        ValueError: the file is missing, broken, or something else.
    """
    path = Path(path)
    try:
        content = load_json(path)
    except OSError as error:
        raise ValueError(f"cannot read the answer list {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy it again") from error
    if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
        return content
    if isinstance(content, list) and all(
        isinstance(entry, dict) and {"ans", "dsets"} <= set(entry) for entry in content
    ):
        return joint_answers(content)
    raise ValueError(f'{path} is no answer list: it must be ["yes", ...] or [{{"ans": "yes", "dsets": [...]}}, ...]')
