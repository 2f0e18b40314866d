"""GQA's official questions."""

from collections.abc import Iterator
from typing import Any

from data.questions.files import PathLike, as_record, read_object
from data.questions.records import Question

_KEPT = ("semantic", "types", "groups", "entailed", "equivalent", "isBalanced", "fullAnswer")


def read_gqa(questions: PathLike) -> Iterator[Question]:
    """An object of question id -> `{imageId, question, answer?, semantic?, types?, groups?, entailed?, isBalanced?}`.

    `answer_type` is "open" for the structural type query, else "binary"; `question_type` is the structural type. What
    the metrics need (the semantic steps, types, groups) is in `extra`.
    """
    file = read_object(questions)
    for key, value in file.content.items():
        record = as_record(value, file.file, f"question {key}")
        types: dict[str, Any] = record.get("types", dict, default={})
        structural = types.get("structural", "")
        yield Question(
            key,
            (str(record.get("imageId", str, int)),),
            record.get("question", str),
            record.get("answer", str, default=""),
            answer_type="" if not structural else "open" if structural == "query" else "binary",
            question_type=structural,
            extra={name: record.content[name] for name in _KEPT if name in record.content},
        )
