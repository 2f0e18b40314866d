"""LXMERT's JSON: VQA and GQA, NLVR2, and the mixture it is pre-trained on."""

from collections.abc import Iterator

from data.questions.files import PathLike, Record, read_list
from data.questions.records import Question

# In pre-training the sentences of these sources are questions, those of others captions.
QUESTION_SOURCES = ("vqa", "gqa", "visual7w")


def read_lxmert(questions: PathLike) -> Iterator[Question]:
    """VQA and GQA: a list of `{question_id, img_id, sent, label?: {answer: score}, answer_type?, question_type?}`.

    `answer` is the one with the highest score, of several the first.
    """
    for record in read_list(questions):
        labels = _labels(record, record.get("label", dict, default=None), "label")
        yield Question(
            record.get("question_id", int, str),
            (str(record.get("img_id", str, int)),),
            record.get("sent", str),
            best(labels),
            labels=labels,
            answer_type=record.get("answer_type", str, default=""),
            question_type=record.get("question_type", str, default=""),
        )


def read_lxmert_nlvr2(questions: PathLike) -> Iterator[Question]:
    """NLVR2: a list of `{uid, identifier, img0, img1, sent, label?: 0 or 1}`; answers are "True" and "False"."""
    for record in read_list(questions):
        label = record.get("label", int, default=None)
        if label not in (None, 0, 1):
            raise record.wrong(f"key 'label': expected 0 or 1, found {label}", "correct it")
        yield Question(
            record.get("identifier", str),
            (record.get("img0", str), record.get("img1", str)),
            record.get("sent", str),
            "" if label is None else str(bool(label)),
            extra={"uid": record.get("uid", str)},
        )


def read_lxmert_pretraining(questions: PathLike) -> Iterator[Question]:
    """Pre-training: a list of `{img_id, sentf: {source: [sentence]}, labelf: {source: [{answer: score}]}}`.

    One record a sentence; `question_type` is its source, and a caption has no labels.
    """
    for record in read_list(questions):
        image = record.get("img_id", str)
        labelled = record.get("labelf", dict, default={})
        for source, sentences in record.get("sentf", dict).items():
            if not isinstance(sentences, list) or not all(isinstance(one, str) for one in sentences):
                raise record.wrong(f"source {source!r} has no list of sentences", "correct it")
            labels = labelled.get(source, [None] * len(sentences))
            if not isinstance(labels, list):
                raise record.wrong(f"source {source!r} has no list of labels", "correct it")
            if len(labels) != len(sentences):
                raise record.wrong(
                    f"source {source!r} has {len(sentences)} sentences and {len(labels)} labels", "give one each"
                )
            for number, (sentence, label) in enumerate(zip(sentences, labels, strict=True)):
                scores = _labels(record, label, "labelf")
                yield Question(
                    f"{image}_{source}_{number}", (image,), sentence, best(scores), labels=scores, question_type=source
                )


def best(labels: dict[str, float] | None) -> str:
    """The answer with the highest score, of several the first; "" of none."""
    return max(labels, key=labels.__getitem__) if labels else ""


def _labels(record: Record, labels: dict[str, float] | None, key: str) -> dict[str, float] | None:
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise record.wrong(f"key {key!r}: expected answers with scores, found {str(labels)[:40]!r}", "correct it")
    for answer, score in labels.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise record.wrong(f"key {key!r}: the score of {answer!r} is {score!r}", "give a number from 0 to 1")
    return {answer: float(score) for answer, score in labels.items()}
