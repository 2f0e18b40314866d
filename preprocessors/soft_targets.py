"""A question's answers as the target of a loss over the answer vocabulary. A answers."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from data.questions.records import Question
from data.questions.vocabulary import NORMALISERS, AnswerVocabulary


def answer_target(question: Question, vocabulary: AnswerVocabulary, kind: str = "bce") -> Tensor:
    """What `trainers.trar_losses.answer_loss` of this kind compares with.

    "bce" [A] float32: 0.3, 0.6, 0.9 and 1 for an answer that one, two, three and more people gave; "kld" [A] float32:
    the share of the people who gave it; "ce" [1] int64: the number of the single answer. Answers outside the vocabulary
    are left out.

    Raises:
        ValueError: an unknown kind, or for "ce" an answer that is not in the vocabulary.
    """
    if kind == "ce":
        row = vocabulary.index_of(question.answer)
        if row is None:
            raise ValueError(
                f"question {question.question_id}: its answer {question.answer!r} is not in the vocabulary of "
                f"{len(vocabulary)}: leave the question out of training, or build the vocabulary over it"
            )
        return torch.tensor([row])
    if kind not in ("bce", "kld"):
        raise ValueError(f"answer loss {kind!r} is unknown; choose one of bce, kld, ce")
    target = torch.zeros(len(vocabulary))
    rows, scores = vocabulary.targets(question) if kind == "bce" else answer_shares(question, vocabulary)
    target[torch.from_numpy(rows)] = torch.from_numpy(scores)
    return target


def answer_shares(question: Question, vocabulary: AnswerVocabulary) -> tuple[np.ndarray, np.ndarray]:
    """int64 [K] rows, ascending, and float32 [K]: the share of the people who gave each answer of the vocabulary."""
    shares: dict[int, float] = {}
    references = question.references
    for answer, count in Counter(map(NORMALISERS[vocabulary.normalise], references)).items():
        row = vocabulary.index_of(answer)
        if row is not None:
            shares[row] = shares.get(row, 0.0) + count / len(references)
    rows = sorted(shares)
    return np.array(rows, dtype=np.int64), np.array([shares[row] for row in rows], dtype=np.float32)
