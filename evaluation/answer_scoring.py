"""Any system's answers scored in the official forms: the annotation files of a data set against a submission."""

from collections.abc import Mapping
from typing import Any

from data.questions.clevr import read_clevr
from data.questions.files import PathLike, Record, read_json, read_lines, read_object
from data.questions.records import QuestionId
from evaluation.submissions import read_submission
from evaluation.vcr_files import score_vcr
from metrics.answers.clevr import clevr_report, clevr_scores
from metrics.answers.gqa import gqa_lines, gqa_scores
from metrics.answers.nlvr import NlvrScores, nlvr1_image_scores, nlvr1_scores, nlvr2_scores
from metrics.answers.vqa import Case, vqa_scores

KINDS = ("vqa", "gqa", "nlvr2", "nlvr1", "clevr", "vcr")


def score_submission(
    kind: str, references: PathLike, predictions: PathLike, *, choices: PathLike | None = None
) -> dict[str, Any]:
    """The official numbers of a submission, as plain values for `json.dumps`.

    `references` is VQA's annotations JSON, GQA's questions JSON (with `choices`, GQA's choices JSON, validity and
    plausibility too), NLVR2's, NLVR's or VCR's JSON lines, or CLEVR's questions JSON. GQA's consistency is left out
    where the questions that others entail are not among the references or not answered, as with the balanced file
    alone.

    Raises ValueError for another kind, files of another form, and questions without answers; of VQA and NLVR for
    answers to questions that are not there, too, as the official scripts do.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no score of kind {kind!r}: choose one of {', '.join(KINDS)}")
    if choices is not None and kind != "gqa":
        raise ValueError(f"choices are given for kind {kind!r}: they belong to gqa")
    if kind == "vcr":
        return score_vcr(references, predictions)
    answers = read_submission("nlvr2" if kind == "nlvr1" else kind, predictions)
    try:
        if kind == "gqa":
            return _gqa(references, answers, choices)
        return {"vqa": _vqa, "nlvr2": _nlvr2, "nlvr1": _nlvr1, "clevr": _clevr}[kind](references, answers)
    except KeyError as error:
        raise ValueError(f"{references}: key {error} is missing: give the official file") from None


def score_text(kind: str, scores: Mapping[str, Any]) -> str:
    """The numbers of `score_submission` for people, in the form of the official script where it has one."""
    if kind == "gqa":
        return "\n".join(gqa_lines(scores))
    if kind == "clevr":
        return str(scores["report"]).rstrip()
    lines = [f"{name}: {value}" for name, value in scores.items() if not isinstance(value, dict)]
    for name, table in scores.items():
        if isinstance(table, dict):
            lines += [f"{name}:", *(f"  {key}: {value}" for key, value in table.items())]
    return "\n".join(lines)


def _vqa(references: PathLike, answers: dict[QuestionId, str]) -> dict[str, Any]:
    annotations = {
        record.get("question_id", int, str): record for record in read_object(references).records("annotations")
    }
    missing = [key for key in annotations if key not in answers]
    surplus = [key for key in answers if key not in annotations]
    for keys, problem in ((missing, "has no answer"), (surplus, "is not among the annotations")):
        if keys:
            raise ValueError(f"question {keys[0]} {problem} ({len(keys)} such): submit the answers of this split")
    found = vqa_scores(_case(record, answers[key]) for key, record in annotations.items())
    return {
        "overall": found.overall,
        "perAnswerType": found.per_answer_type,
        "perQuestionType": found.per_question_type,
        "questions": len(found.each),
    }


def _case(record: Record, answer: str) -> Case:
    notes = list(record.records("answers"))
    # Whole records are compared there, so what else one holds keeps equal answers apart.
    marks = [repr(sorted((key, value) for key, value in note.content.items() if key != "answer")) for note in notes]
    answer_type, question_type = (record.get(key, str, default="") for key in ("answer_type", "question_type"))
    return Case(answer, [note.get("answer", str) for note in notes], answer_type, question_type, marks)


def _gqa(references: PathLike, answers: dict[QuestionId, str], choices: PathLike | None) -> dict[str, Any]:
    questions = read_object(references).content
    given = {str(key): answer for key, answer in answers.items()}
    entailed = {
        other
        for key, question in questions.items()
        if question["isBalanced"] and given.get(key) == question["answer"]
        for other in question["entailed"]
    }
    consistency = all(key in questions and key in given for key in entailed)
    options = None if choices is None else read_json(choices)
    return gqa_scores(questions, given, options, consistency=consistency)


def _nlvr2(references: PathLike, answers: dict[QuestionId, str]) -> dict[str, Any]:
    labels = _labels(references)
    return _named(nlvr2_scores(labels, _texts(answers)), len(labels))


def _nlvr1(references: PathLike, answers: dict[QuestionId, str]) -> dict[str, Any]:
    """Of examples, or of images where the identifiers are pictures' names."""
    labels, given = _labels(references), _texts(answers)
    first = next(iter(given), "")
    if not first.endswith(".png"):
        return _named(nlvr1_scores(labels, given), len(labels))
    return _named(nlvr1_image_scores(first.partition("-")[0], labels, given), len(given))


def _clevr(references: PathLike, answers: dict[QuestionId, str]) -> dict[str, Any]:
    questions = list(read_clevr(references))
    functions = [question.question_type for question in questions]
    scores = clevr_scores(answers.values(), [question.answer for question in questions], functions)
    table = {name: {"correct": row.correct, "total": row.total, "percent": row.percent} for name, row in scores.items()}
    return {"families": table, "report": clevr_report(scores)}


def _labels(references: PathLike) -> dict[str, str]:
    return {record.get("identifier", str): record.get("label", str) for record in read_lines(references)}


def _texts(answers: dict[QuestionId, str]) -> dict[str, str]:
    return {str(key): answer for key, answer in answers.items()}


def _named(scores: NlvrScores, examples: int) -> dict[str, Any]:
    return {"accuracy": scores.accuracy, "consistency": scores.consistency, "examples": examples}
