"""Answers of several people as targets for training: scores or shares over the answer list."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

#: Score of an answer by how many of ten people gave it; four or more make it fully right.
_SCORES = (0.0, 0.3, 0.6, 0.9)
_PEOPLE = 10


def answer_scores(answers: Iterable[str]) -> dict[str, float]:
    """0.3, 0.6, 0.9 or 1 for an answer given once, twice, three times, more often; the answers are normalised already."""
    return {answer: score_of(count) for answer, count in Counter(answers).items()}


def score_of(count: int) -> float:
    return _SCORES[count] if count < len(_SCORES) else 1.0


def answer_shares(answers: Iterable[str]) -> dict[str, float]:
    """Times given, divided by ten, as the public code has it whatever the number of people."""
    return {answer: count / _PEOPLE for answer, count in Counter(answers).items()}


def soft_target(scores: Mapping[str, float], ids: Mapping[str, int]) -> Tensor:
    """[A] float32: the score of each answer of the list `ids`; answers that are not in it are left out."""
    target = torch.zeros(len(ids))
    for answer, score in scores.items():
        if answer in ids:
            target[ids[answer]] = score
    return target


def frequent_answers(answers: Iterable[str], minimum: int = 9) -> list[str]:
    """The answers (normalised) given at least `minimum` times, in the order of first appearance.

    The published list keeps answers that are given more than 8 times.
    """
    return [answer for answer, count in Counter(answers).items() if count >= minimum]


def first_answers(answers: Sequence[str]) -> list[str]:
    """Every answer once, in the order of first appearance: CLEVR's list, over the training and validation questions."""
    return list(dict.fromkeys(answers))
