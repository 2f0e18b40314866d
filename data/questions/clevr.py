"""CLEVR's questions, and the queries of SHAPES."""

from collections.abc import Iterator
from pathlib import Path

from data.pictures import without_suffix
from data.plain_files import read_npz
from data.questions.files import PathLike, read_object
from data.questions.records import Question


def read_clevr(questions: PathLike) -> Iterator[Question]:
    """`{questions: [{question, image_filename | image_index, answer?, program?: [{function}], question_index?}]}`.

    `question_type` is the last function of the program (or of a generated split's `type`); the image id is the
    picture's name without suffix, else its number.
    """
    for number, record in enumerate(read_object(questions).records("questions")):
        index = record.get("image_index", int, default=None)
        name = record.get("image_filename", str, default=None)
        if name is None and index is None:
            raise record.wrong("neither 'image_filename' nor 'image_index'", "name the picture")
        program = record.get("program", list, default=[])
        steps = list(record.records("program")) if program else []
        last = steps[-1].get("function", str, default=None) or steps[-1].get("type", str) if steps else ""
        yield Question(
            record.get("question_index", int, default=number),
            (str(index) if name is None else without_suffix(name),),
            record.get("question", str),
            record.get("answer", str, default=""),
            question_type=last,
            extra={} if index is None else {"image_index": index},
        )


def read_shapes(questions: PathLike) -> Iterator[Question]:
    """An `.npz` with `query` [N], `answer` bool [N], `layout` [N]; query i is about picture `STEM-i`, or, where there
    is an array `picture` [N], about `STEM-picture[i]`. Answers: true, false."""
    content = read_npz(Path(questions))
    lacking = [name for name in ("query", "answer", "layout") if name not in content]
    if lacking:
        raise ValueError(f"{questions}: cannot read the array {lacking[0]} (it has {', '.join(content)}): check it")
    columns = [content[name].tolist() for name in ("query", "answer", "layout")]
    stem = Path(questions).stem
    pictures = content["picture"].tolist() if "picture" in content else range(len(columns[0]))
    for number, (picture, query, answer, layout) in enumerate(zip(pictures, *columns, strict=True)):
        yield Question(
            f"{stem}-{number}", (f"{stem}-{picture}",), query, "true" if answer else "false", extra={"layout": layout}
        )
