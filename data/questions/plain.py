"""One's own questions: a table of `image, question, answer | answers[, question_type, answer_type, split, ...]`.

As JSON lines or CSV. Column names may be given; what is not asked for goes into `extra`.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.questions.files import PathLike, Record, read_lines, read_text
from data.questions.records import Question

# Column -> the names it goes by where none is given.
COLUMNS = {
    "question_id": ("question_id", "qid", "id"),
    "image": ("image", "image_id", "img_id"),
    "image2": ("image2",),
    "images": ("images",),
    "question": ("question", "sentence", "sent", "text"),
    "answer": ("answer",),
    "answers": ("answers",),
    "answer_type": ("answer_type",),
    "question_type": ("question_type",),
}
SEPARATOR = "|"  # of several answers or types in one CSV cell


def read_plain(questions: PathLike, columns: Mapping[str, str] | None = None) -> Iterator[Question]:
    """Of a `.csv` file with a header, or of JSON lines. `columns` maps keys of `COLUMNS` to the names in the file.

    A pair of pictures is `image` and `image2`, or a list `images`. Several answers are a list, in CSV parted by `|`;
    then `answer` is the most frequent. The id of a question without one is its row number. Raises ValueError, with the
    file, the line and the remedy, for what does not fit.
    """
    for key in columns or {}:
        if key not in COLUMNS:
            raise ValueError(f"columns: unknown column {key!r}: choose from {', '.join(COLUMNS)}")
    is_csv = str(questions).removesuffix(".gz").endswith(".csv")
    for number, record in enumerate(_csv(questions) if is_csv else read_lines(questions)):
        if number == 0:
            _check(record, columns or {})
        yield _question(number, record, _names(record, columns or {}))


def _question(number: int, record: Record, names: Mapping[str, str]) -> Question:
    def get(key: str, *kinds: type, default: Any = None) -> Any:
        return record.get(names[key], *kinds, default=default) if key in names else default

    images = get("images", list) or [get("image", str, int), get("image2", str, int)]
    images = tuple(str(image) for image in images if image not in (None, ""))
    if not 1 <= len(images) <= 2:
        raise record.wrong(f"{len(images)} images", "name one picture, or the two of a pair")
    answers = _several(get("answers", list, str))
    answer = get("answer", str, int, float, bool, default="")
    return Question(
        get("question_id", int, str, default=number),
        images,
        record.get(names["question"], str),
        _text(answer) or max(answers, key=answers.count, default=""),
        answers,
        answer_type=_joined(get("answer_type", str, list)),
        question_type=_joined(get("question_type", str, list)),
        extra={key: value for key, value in record.content.items() if key not in names.values()},
    )


def _check(record: Record, columns: Mapping[str, str]) -> None:
    for key, name in columns.items():
        if name not in record.content:
            raise record.wrong(
                f"no column {name!r} for {key!r} (it has {', '.join(record.content)})", "correct columns"
            )


def _names(record: Record, columns: Mapping[str, str]) -> dict[str, str]:
    """Column -> its name in this record, as far as it is there."""
    found = dict(columns)
    for key, usual in COLUMNS.items():
        present = [name for name in usual if name in record.content]
        if key not in found and present:
            found[key] = present[0]
    for needed in (("question",), ("image", "images")):
        if not any(key in found for key in needed):
            raise record.wrong(f"no column {needed[0]!r} (it has {', '.join(record.content)})", "name it in columns")
    return found


def _csv(path: PathLike) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        _check_header(reader.fieldnames or (), path)
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{path}: {where}: not as many cells as the header has: repair the row")
            yield Record(dict(row), str(path), where)
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: broken CSV ({error}): repair it") from None


def _check_header(names: Sequence[str], path: PathLike) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: the column {twice!r} stands twice in the header: rename one")


def _several(value: Any) -> tuple[str, ...]:
    parts = value.split(SEPARATOR) if isinstance(value, str) else value or []
    return tuple(text for text in map(_text, parts) if text)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _joined(value: Any) -> str:
    return SEPARATOR.join(value) if isinstance(value, list) else value or ""
