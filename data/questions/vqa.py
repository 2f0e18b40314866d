"""VQA v2's official files, and Visual Genome's questions."""

from collections.abc import Iterator
from typing import Any

from data.questions.files import PathLike, Record, read_list, read_object
from data.questions.records import Question


def read_vqa(questions: PathLike, annotations: PathLike | None) -> Iterator[Question]:
    """Of a `..._questions.json` and, where there are answers, its `..._annotations.json`.

    `answer` is the multiple-choice answer, else the most frequent; `answers` are the ten annotators'. Image ids are the
    stems of COCO's files, such as COCO_val2014_000000000042. Raises ValueError for a question without annotation and
    for broken files.
    """
    content = read_object(questions)
    image_name = _image_names(content)
    notes = {} if annotations is None else _annotations(annotations)
    for record in content.records("questions"):
        key = record.get("question_id", int, str)
        note = notes.get(key)
        if annotations is not None and note is None:
            raise record.wrong(f"question {key} has no annotation in {annotations}", "use the files of one split")
        image = image_name(record.get("image_id", int, str))
        yield Question(key, (image,), record.get("question", str), **(_answers(note) if note else {}))


def read_visual_genome(questions: PathLike) -> Iterator[Question]:
    """Of `question_answers.json`: a list of `{id, qas: [{qa_id, image_id, question, answer}]}`."""
    for image in read_list(questions):
        for record in image.records("qas"):
            yield Question(
                record.get("qa_id", int, str),
                (str(record.get("image_id", int, str)),),
                record.get("question", str),
                record.get("answer", str),
            )


def _annotations(path: PathLike) -> dict[int | str, Record]:
    found: dict[int | str, Record] = {}
    for record in read_object(path).records("annotations"):
        key = record.get("question_id", int, str)
        if found.setdefault(key, record) is not record:
            raise record.wrong(f"question {key} is annotated by {found[key].where} already", "keep one of them")
    return found


def _answers(note: Record) -> dict[str, Any]:
    answers = [answer.get("answer", str) for answer in note.records("answers")]
    most = max(answers, key=answers.count, default="")
    return {
        "answer": note.get("multiple_choice_answer", str, default=most),
        "answers": tuple(answers),
        "answer_type": note.get("answer_type", str, default=""),
        "question_type": note.get("question_type", str, default=""),
    }


def _image_names(content: Record) -> Any:
    """A function from image id to the stem of its file, by what the file says of the pictures."""
    subtype = content.get("data_subtype", str, default="")
    # test-dev is a part of the test pictures
    subtype = subtype.replace("test-dev", "test")
    prefix = {"mscoco": "COCO"}.get(content.get("data_type", str, default="mscoco"), content.content.get("data_type"))
    if not subtype:
        return str

    def name(number: int | str) -> str:
        try:
            return f"{prefix}_{subtype}_{int(number):012d}"
        except ValueError:
            raise content.wrong(f"image_id {str(number)[:40]!r} is no number of COCO's", "correct it") from None

    return name
