"""Question files -> Questions, by the name of their format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from data.questions.captions import read_coco_captions
from data.questions.clevr import read_clevr, read_shapes
from data.questions.files import PathLike
from data.questions.gqa import read_gqa
from data.questions.imdb import read_imdb
from data.questions.lxmert import read_lxmert, read_lxmert_nlvr2, read_lxmert_pretraining
from data.questions.nlvr import read_nlvr1, read_nlvr2
from data.questions.plain import read_plain
from data.questions.records import Question, Questions
from data.questions.vcr import read_vcr, read_vcr_pairs, read_vcr_rationale
from data.questions.vqa import read_visual_genome, read_vqa

# Those that need the file of questions only.
_SIMPLE = {
    "lxmert": read_lxmert,
    "lxmert-nlvr2": read_lxmert_nlvr2,
    "lxmert-pretraining": read_lxmert_pretraining,
    "gqa": read_gqa,
    "nlvr2": read_nlvr2,
    "clevr": read_clevr,
    "shapes": read_shapes,
    "visual-genome": read_visual_genome,
    "imdb": read_imdb,
    "coco-captions": read_coco_captions,
    "vcr": read_vcr,
    "vcr-rationale": read_vcr_rationale,
    "vcr-pairs": read_vcr_pairs,
}
FORMATS = ("vqa", "nlvr1", "plain", *_SIMPLE)


def read_questions(
    name: str,
    *,
    format: str,
    questions: PathLike | Sequence[PathLike],
    annotations: PathLike | Sequence[PathLike] | None = None,
    columns: Mapping[str, str] | None = None,
    only: Mapping[str, Iterable[Any]] | None = None,
    exclude: Mapping[str, Iterable[Any]] | None = None,
) -> Questions:
    """Reads one split, of one file or of several one after the other.

    `format` is one of `FORMATS`. `annotations` are the answers of "vqa", a file for each of `questions`; `columns`
    names those of "plain" (see `read_plain`). `only` and `exclude` select by field or by what is in `extra`, for
    instance `only={"image_fold": [0, 1, 2, 3]}`; a plain file with a column `split` gives the rows whose split is
    `name`.

    Raises ValueError, with file, record and remedy, for what cannot be read, and for an empty split.
    """
    if format not in FORMATS:
        raise ValueError(f"data.format is {format!r}: choose one of {', '.join(FORMATS)}")
    files, answers = _list(questions), _list(annotations)
    if answers and (format != "vqa" or len(answers) != len(files)):
        raise ValueError(
            f"{len(answers)} annotation files for {len(files)} files of {format} questions: give one for each"
        )
    if columns and format != "plain":
        raise ValueError(f"columns are given for format {format!r}: they belong to plain")
    rows = _read(format, files, answers or [None] * len(files), columns)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{', '.join(map(str, files))}: the split has no questions: check the files and their format")
    found = Questions(name, chain([first], rows))
    if format == "plain" and any("split" in question.extra for question in found):
        only = {"split": [name]} | dict(only or {})
    try:
        return found.select(only, exclude) if only or exclude else found
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, files))}: {error}") from None


def _read(
    format: str,
    files: list[PathLike],
    annotations: Sequence[PathLike | None],
    columns: Mapping[str, str] | None,
) -> Iterator[Question]:
    for file, answers in zip(files, annotations, strict=True):
        if format == "vqa":
            yield from read_vqa(file, answers)
        elif format == "nlvr1":
            yield from read_nlvr1(file, Path(file).stem)
        elif format == "plain":
            yield from read_plain(file, columns)
        elif format == "clevr" and len(files) > 1:  # each of its files counts from 0
            stem = Path(file).stem
            yield from (replace(one, question_id=f"{stem}-{one.question_id}") for one in read_clevr(file))
        else:
            yield from _SIMPLE[format](file)


def _list(paths: Any) -> list[PathLike]:
    if paths is None:
        return []
    return list(paths) if isinstance(paths, list | tuple) else [paths]
