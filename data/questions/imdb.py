"""Pythia's imdb files of VQA v2: a pickled array of dictionaries, read without running the pickle."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.plain_files import read_npy
from data.questions.files import PathLike
from data.questions.records import Question

_NEEDED = ("question_id", "image_name", "question_str")
#: Stands for an answer that is not in Pythia's list.
_UNKNOWN = "<unk>"


def imdb_records(path: PathLike) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header, and the questions as the file holds them.

    A question has `question_id`, `image_name`, `image_id`, `question_str`, `question_tokens` and, but in test sets,
    `all_answers` and `valid_answers` (those in Pythia's list, `["<unk>"]` where none is). Raises ValueError for a file
    that is missing, damaged, holds code or is no imdb.
    """
    array = read_npy(Path(path))
    rows = array.tolist() if array.dtype.hasobject and array.ndim == 1 else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: no imdb file: it must be an array of a header and of questions")
    header, *questions = rows
    for number, question in enumerate(questions, start=1):
        lacking = [name for name in _NEEDED if name not in question]
        if lacking:
            raise ValueError(f"{path}: record {number} has no {', '.join(lacking)}: it is no imdb file of VQA")
    return header, questions


def read_imdb(path: PathLike) -> Iterator[Question]:
    """The questions; `extra` holds `question_tokens` and `valid_answers`, which VisualBERT is trained with.

    `answers` are the ten annotators' and `answer` the most frequent that is in Pythia's list. Raises ValueError as
    `imdb_records`.
    """
    for row in imdb_records(path)[1]:
        valid = list(row.get("valid_answers", []))
        known = Counter(answer for answer in valid if answer != _UNKNOWN)
        extra: dict[str, Any] = {"question_tokens": list(row.get("question_tokens", []))}
        yield Question(
            row["question_id"],
            (row["image_name"],),
            row["question_str"],
            known.most_common(1)[0][0] if known else "",
            tuple(row.get("all_answers", [])),
            extra=extra | ({"valid_answers": valid} if valid else {}),
        )
