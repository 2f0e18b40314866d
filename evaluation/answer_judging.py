"""Everything that is said of a list of answers: accuracy, by type, how sure it is, and whether probabilities are right.

Shapes: N questions.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from data.questions import Question
from evaluation.bootstrap import Contributions, intervals
from evaluation.judgement import Judgement
from evaluation.table import render_table
from metrics.answers.calibration import calibration
from metrics.answers.clevr import clevr_scores
from metrics.answers.gqa import gqa_scores
from metrics.answers.nlvr import nlvr2_scores
from metrics.answers.tables import Mean, by_group
from metrics.answers.vqa import accuracy as vqa_accuracy

LOGGER = logging.getLogger("stylecap")
SEPARATOR = "|"  # of several types of one question
_MOST_TYPES = 12  # answer types that have an interval of their own


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable answers of a question with their probabilities, the best first; `notes`: what else its row
    keeps, such as `spans`: span -> its weight in each layer, or `dictionaries`: dictionary -> layer -> how evenly its
    entries are looked at."""

    top: tuple[tuple[str, float], ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> str:
        return self.top[0][0]

    @property
    def probability(self) -> float:
        return self.top[0][1]


def answer_score(question: Question, answer: str, *, rule: str, exact: bool) -> float:
    """What an answer scores, 0 to 1.

    Args:
        rule: "auto" is VQA's accuracy where several people answered, else the score that the labels give the answer,
            else equality. "vqa" and "openvqa" are VQA's, "exact" and "lower" equality with or without letter case.
        exact: whether "auto" compares letter case.

    Raises:
        ValueError: nothing is known to compare with. Labels without any answer are known: nothing scores.
    """
    if not question.references and question.labels is None:
        raise ValueError(
            f"question {question.question_id} has no answer to score against: write a submission with the command "
            "predict, or score another split"
        )
    if rule in ("vqa", "openvqa") or (rule == "auto" and len(question.answers) > 1):
        return vqa_accuracy(answer, question.references, rule="openvqa" if rule == "openvqa" else "official")
    if rule == "auto" and question.labels is not None:
        return float(question.labels.get(answer, 0.0))
    reference = question.answer or next(iter(question.references), "")
    if rule == "exact" or (rule == "auto" and exact):
        return float(answer == reference)
    return float(answer.strip().lower() == reference.strip().lower())


def judge_answers(
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    *,
    rule: str,
    exact: bool,
    official: str | None,
    bootstrap: int,
    title: str,
    file_of: Callable[[str], str | None] = lambda image: None,
    in_vocabulary: Callable[[str], bool] | None = None,
) -> Judgement:
    """Judge one prediction for each question, and log a table headed `title`.

    Args:
        rule, exact: as in `answer_score`.
        official: "gqa", "nlvr2" or "clevr": what else their official scripts say; None for nothing.
        bootstrap: draws of pictures behind the intervals; 0 leaves them out.
        file_of: image id -> its file, for pages.
        in_vocabulary: whether the model could have given an answer.

    Returns:
        `metrics`: `accuracy`, `accuracy (TYPE)` for each answer type, `per_answer_type` and `per_question_type` with
        [accuracy, questions], `calibration_error`, `intervals`; with `in_vocabulary`, `known_answers`, the share of
        questions that the model could answer right. `predictions`: a row a question.
    """
    scores = [
        answer_score(question, one.answer, rule=rule, exact=exact)
        for question, one in zip(questions, predictions, strict=True)
    ]
    types = sorted({question.answer_type for question in questions if question.answer_type})
    types = types if 1 < len(types) <= _MOST_TYPES else []
    rows = [
        _row(question, one, score, types, file_of)
        for question, one, score in zip(questions, predictions, scores, strict=True)
    ]
    of_notes = {"spans": span_table(rows), "dictionaries": dictionary_table(rows)}
    metrics: dict[str, Any] = {"accuracy": sum(scores) / len(scores)}
    tables = _tables(questions, scores)
    metrics |= {_named(name): tables["per_answer_type"][name].score for name in types}
    metrics["calibration_error"] = calibration([one.probability for one in predictions], scores).ece
    if in_vocabulary is not None:
        known = [any(map(in_vocabulary, question.references)) for question in questions]
        metrics["known_answers"] = sum(known) / len(known)
    metrics |= {"n_questions": len(questions), "n_images": len({i for one in questions for i in one.images})}
    metrics |= {name: {key: list(mean) for key, mean in table.items()} for name, table in tables.items()}
    metrics |= _official(official, questions, predictions)
    metrics |= {name: table for name, table in of_notes.items() if table}
    metrics["intervals"] = intervals(Contributions.of(rows), bootstrap) if bootstrap else {}
    LOGGER.info("%s; scores x 100\n%s", title, render_table(_logged(metrics)))
    return Judgement(metrics, rows)


def span_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Type of question -> span -> its mean weight in each layer, of predictions that keep `spans`; the type is
    `question_type`, else `answer_type`, and "all" is every one."""
    sums: dict[str, dict[str, np.ndarray]] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        for name in {"all", row["question_type"] or row["answer_type"] or "all"} if "spans" in row else ():
            counts[name] += 1
            table = sums.setdefault(name, {})
            for span, weights in row["spans"].items():
                table[span] = table.get(span, 0.0) + np.asarray(weights)
    most = [name for name, _ in counts.most_common(_MOST_TYPES)]
    return {
        name: {span: [round(float(w), 4) for w in total / counts[name]] for span, total in sums[name].items()}
        for name in most
    }


def dictionary_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Dictionary -> layer -> `nats` and `share`, the mean over the predictions that keep `dictionaries`.

    `nats` is the entropy of the attention over a dictionary's entries, `share` what that is of the most it can be.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        for name, layers in row.get("dictionaries", {}).items():
            for layer, found in layers.items():
                for what, value in found.items():
                    values.setdefault((name, layer, what), []).append(value)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (name, layer, what), of_rows in values.items():
        table.setdefault(name, {}).setdefault(layer, {})[what] = round(fmean(of_rows), 4)
    return table


def _named(answer_type: str) -> str:
    return f"accuracy ({answer_type})"


def _tables(questions: Sequence[Question], scores: Sequence[float]) -> dict[str, dict[str, Mean]]:
    """Accuracy by answer type and by question type, as far as there are any."""
    tables = {}
    for name in ("answer_type", "question_type"):
        groups = [[part for part in getattr(one, name).split(SEPARATOR) if part] for one in questions]
        tables[f"per_{name}"] = by_group(scores, groups)
    return tables


def _row(
    question: Question,
    prediction: Prediction,
    score: float,
    types: Sequence[str],
    file_of: Callable[[str], str | None],
) -> dict[str, Any]:
    by_type = {_named(name): score if question.answer_type == name else None for name in types}
    return {
        "image_id": " ".join(question.images),
        "question_id": question.question_id,
        "image": file_of(question.images[0]),
        "question": question.text,
        "answer": prediction.answer,
        "top": [[answer, round(share, 4)] for answer, share in prediction.top],
        "references": list(dict.fromkeys(question.references)),
        "answer_type": question.answer_type,
        "question_type": question.question_type,
        "scores": {"accuracy": score} | by_type,
        **prediction.notes,
    }


def _official(kind: str | None, questions: Sequence[Question], predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What the official script of a data set says beside accuracy."""
    answers = {str(question.question_id): one.answer for question, one in zip(questions, predictions, strict=True)}
    if kind == "nlvr2":
        return {"consistency": nlvr2_scores({str(q.question_id): q.answer for q in questions}, answers).consistency}
    if kind == "clevr" and all(question.question_type for question in questions):
        families = clevr_scores(
            answers.values(), [one.answer for one in questions], [one.question_type for one in questions]
        )
        return {"clevr": {name: [row.percent / 100, row.total] for name, row in families.items()}}
    if kind == "gqa" and all({"types", "groups", "isBalanced", "entailed"} <= set(one.extra) for one in questions):
        table = {str(one.question_id): {"question": one.text, "answer": one.answer, **one.extra} for one in questions}
        entailed = {key for one in questions for key in one.extra["entailed"]}
        return {"gqa": gqa_scores(table, answers, consistency=entailed <= set(table))}
    return {}


def _logged(metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    names = [name for name in metrics if name.startswith("accuracy")]
    rows: dict[str, dict[str, float | None]] = {"all": {name: metrics[name] for name in names}}
    for row, end in (("  95% from", 0), ("  95% to", 1)):
        if metrics["intervals"]:
            rows[row] = {name: metrics["intervals"].get(name, [None, None])[end] for name in names}
    return rows
