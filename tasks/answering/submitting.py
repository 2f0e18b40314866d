"""The command `predict`: a model's answers to a split in the form that the official server takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conf.answering import CHOOSING, AnsweringConfig
from data.questions.vcr import CHOICES
from data.run_folder import RunFolder
from evaluation.submissions import write_submission
from evaluation.vcr_files import write_vcr
from tasks.answering.choosing import asked_of, shares_of
from tasks.answering.inference import answered
from tasks.answering.records import read_records
from tasks.answering.task import open_checkpoint, place
from tasks.evaluating import find_checkpoint

_KIND = {"vqa": "vqa", "lxmert": "vqa", "gqa": "gqa", "nlvr2": "nlvr2", "lxmert-nlvr2": "nlvr2", "clevr": "clevr"}
_KIND |= {"demo": "vqa", "demo-next-to": "vqa", "demo-pairs": "nlvr2", "plain": "vqa", "nlvr1": "nlvr2"}
_KIND |= {"imdb": "vqa", "vcr": "vcr", "vcr-rationale": "vcr"}
_SUFFIX = {"vqa": "json", "gqa": "json", "nlvr2": "csv", "clevr": "txt", "vcr": "csv"}


def run_prediction(
    config: AnsweringConfig, *, split: str, checkpoint: str | None, kind: str | None, output: str | None
) -> Path:
    """Answer every question of a split, and write the submission; its path.

    Args:
        kind: one of `evaluation.submissions.KINDS`, or "vcr"; None is that of data.format.
        output: the file; None is `SPLIT_predict` in the run's folder.

    Raises:
        ValueError: a question without features or without an answer, no checkpoint; nothing is written then.
    """
    kind = kind or _KIND.get(config.data.format)
    if kind not in _SUFFIX:
        raise ValueError(f"data.format = {config.data.format} has no submission of its own: name one with --kind")
    records = read_records(config, split)
    missing = records.features.missing(records.questions.image_ids)
    if missing:
        raise ValueError(
            f"split {split}: {len(missing)} of {len(records.questions.image_ids)} pictures have no features, such as "
            f"{missing[0]}: every question must be answered; add them to data.features"
        )
    _refuse_empty([question.text for question in records], split)
    if (kind == "vcr") != (config.data.format in CHOOSING):
        raise ValueError(f"data.format = {config.data.format} is not answered in the form of {kind}: leave --kind out")
    ids = [question.question_id for question in records]
    if len(set(ids)) < len(ids):
        raise ValueError(f"split {split}: {len(ids) - len(set(ids))} questions share the id of another: correct it")
    source = find_checkpoint(config.work_dir, checkpoint)
    answerer = place(open_checkpoint(config, source, records))
    path = Path(output) if output else RunFolder(config.work_dir).path / f"{split}_predict.{_SUFFIX[kind]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "vcr":
        every = replace(config, eval=replace(config.eval, top=CHOICES))
        write_vcr(
            path, list(map(str, ids)), shares_of(config, records, answered(answerer, asked_of(config, records), every))
        )
    else:
        found = answered(answerer, records, config)
        write_submission(kind, records, {key: one.answer for key, one in zip(ids, found, strict=True)}, path)
    return path


def _refuse_empty(texts: Sequence[str], split: str) -> None:
    empty = [number for number, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ValueError(f"split {split}: question number {empty[0]} is empty ({len(empty)} such): correct the file")
