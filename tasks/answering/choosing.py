"""VCR within the task: the file of the leaderboard, and what a question's answer and reason score together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from conf.answering import AnsweringConfig
from data.questions import Question, Questions
from data.questions.vcr import CHOICES
from evaluation.answer_judging import Prediction
from evaluation.vcr_files import ChoiceShares, read_vcr_shares
from metrics.answers.vcr import vcr_scores
from tasks.answering.records import Records

RATIONALES = "vcr-rationale"


def asked_of(config: AnsweringConfig, records: Records) -> Records:
    """The questions that a submission needs: of reasons, each question after every answer, for nobody knows the right
    one."""
    if config.data.format != RATIONALES:
        return records
    return replace(records, questions=Questions(records.name, _after_each_answer(records)))


def shares_of(config: AnsweringConfig, records: Records, predictions: Sequence[Prediction]) -> ChoiceShares:
    """What the leaderboard's file says of `records`: predictions are those of `asked_of` them. With
    eval.answers_file its answers are in it, too."""
    ids = [str(question.question_id) for question in records]
    shares = [choice_shares(one) for one in predictions]
    if config.data.format != RATIONALES:
        return ChoiceShares(answers=dict(zip(ids, shares, strict=True)))
    rows = [shares[start : start + CHOICES] for start in range(0, len(shares), CHOICES)]
    return ChoiceShares(_answers_of(config), dict(zip(ids, rows, strict=True)))


def choice_shares(prediction: Prediction) -> list[float]:
    """The probability of every choice, by number; 0 of those that were not kept."""
    kept = dict(prediction.top)
    return [float(kept.get(str(choice), 0.0)) for choice in range(CHOICES)]


def scores_of(config: AnsweringConfig, records: Records, predictions: Sequence[Prediction]) -> dict[str, float]:
    """`Q->A`, or `QA->R` and with eval.answers_file all three. ValueError for a file that lacks a question."""
    found = {str(one.question_id): choice_shares(p) for one, p in zip(records, predictions, strict=True)}
    answers = {str(one.question_id): one.extra["answer_label"] for one in records}
    if config.data.format != RATIONALES:
        return vcr_scores(answers, {}, found, None).named()
    reasons = {str(one.question_id): one.extra["rationale_label"] for one in records}
    try:
        return vcr_scores(answers, reasons, _answers_of(config), found).named()
    except ValueError as error:
        raise ValueError(f"eval.answers_file = {config.eval.answers_file}: {error}") from None


def _answers_of(config: AnsweringConfig) -> Any:
    file = config.eval.answers_file
    if file is None:
        return None
    answers = read_vcr_shares(file).answers
    if answers is None:
        raise ValueError(f"eval.answers_file = {file}: it has no answers: name what predict wrote with format vcr")
    return answers


def _after_each_answer(records: Records) -> Iterator[Question]:
    for question in records:
        for answer in range(CHOICES):
            extra = {**question.extra, "answer_label": answer}
            yield replace(question, question_id=f"{question.question_id} after answer {answer}", extra=extra)
