"""Answers in the forms that the official servers and scripts take, written and read.

VQA: a JSON list of `{answer, question_id}`. GQA: of `{prediction, questionId}`. NLVR2 (and NLVR): lines
`identifier,True|False`. CLEVR: one answer a line, in question order.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data.files import replacing
from data.questions.files import PathLike, Record, read_list, read_text
from data.questions.records import Question, QuestionId

Answers = Mapping[QuestionId, str]
KINDS = ("vqa", "gqa", "nlvr2", "clevr")
_KEYS = {"vqa": ("question_id", "answer"), "gqa": ("questionId", "prediction")}
_TRUTH = {"true": "True", "false": "False"}


def write_submission(kind: str, questions: Iterable[Question], answers: Answers, path: PathLike) -> None:
    """Writes the file for one of `KINDS`, in the order of `questions`; `answers` maps their ids to answers.

    Raises ValueError, and writes nothing, for a question without an answer, and for a judgement of NLVR2 that is
    neither True nor False.
    """
    text = submission_text(kind, questions, answers)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def submission_text(kind: str, questions: Iterable[Question], answers: Answers) -> str:
    """The content of the file; see `write_submission`."""
    if kind not in KINDS:
        raise ValueError(f"there is no submission of kind {kind!r}: choose one of {', '.join(KINDS)}")
    ids = [question.question_id for question in questions]
    missing = [key for key in ids if key not in answers]
    if missing:
        raise ValueError(f"question {missing[0]} has no answer ({len(missing)} of {len(ids)}): answer every question")
    if not ids:
        raise ValueError("no questions: there is nothing to submit")
    return _WRITERS[kind]([(key, answers[key]) for key in ids])


def read_submission(kind: str, path: PathLike) -> dict[QuestionId, str]:
    """Question id -> answer, in the file's order; of CLEVR the ids are 0, 1, 2 and so on.

    Raises ValueError, with the file and the place, for a file of another form and an id that is there twice.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no submission of kind {kind!r}: choose one of {', '.join(KINDS)}")
    if kind in _KEYS:
        rows = _read_json(path, *_KEYS[kind])
    elif kind == "nlvr2":
        rows = _read_csv(path)
    else:
        rows = list(enumerate(read_text(path).splitlines()))
    found: dict[QuestionId, str] = {}
    for key, answer in rows:
        if key in found:
            raise ValueError(f"{path}: {key} is answered twice: answer each question once")
        found[key] = answer
    return found


def _vqa(rows: Sequence[tuple[QuestionId, str]]) -> str:
    return _json([{"answer": answer, "question_id": _number(key)} for key, answer in rows])


def _gqa(rows: Sequence[tuple[QuestionId, str]]) -> str:
    return _json([{"prediction": answer, "questionId": str(key)} for key, answer in rows])


def _nlvr2(rows: Sequence[tuple[QuestionId, str]]) -> str:
    lines = []
    for key, answer in rows:
        if answer.lower() not in _TRUTH:
            raise ValueError(f"{key}: the answer is {answer!r}: it must be True or False")
        lines.append(f"{key},{_TRUTH[answer.lower()]}\n")
    return "".join(lines)


def _clevr(rows: Sequence[tuple[QuestionId, str]]) -> str:
    return "".join(f"{answer}\n" for _, answer in rows)


_WRITERS: dict[str, Callable[[Sequence[tuple[QuestionId, str]]], str]] = {
    "vqa": _vqa,
    "gqa": _gqa,
    "nlvr2": _nlvr2,
    "clevr": _clevr,
}


def _json(records: list[dict[str, QuestionId]]) -> str:
    return json.dumps(records, indent=4, sort_keys=True)


def _number(key: QuestionId) -> QuestionId:
    """An id as VQA has it: a number where it is one."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _read_json(path: PathLike, key: str, answer: str) -> list[tuple[QuestionId, str]]:
    return [(record.get(key, int, str), _answer(record, answer)) for record in read_list(path)]


def _answer(record: Record, key: str) -> str:
    return str(record.get(key, str))


def _read_csv(path: PathLike) -> list[tuple[QuestionId, str]]:
    rows: list[tuple[QuestionId, str]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        key, comma, answer = (part.strip() for part in line.partition(","))
        if line.strip() and (not comma or answer.lower() not in _TRUTH):
            raise ValueError(f"{path}: line {number}: expected identifier,True or identifier,False: correct it")
        if comma:
            rows.append((key, answer))
    return rows
