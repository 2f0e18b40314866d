"""Files of LXMERT's forms: features decode to the same arrays, submissions are written alike, its own scores agree.

A folder of them is every one that holds such files; each file is found by how its name begins.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.features import FeatureStore, check_store, import_features
from data.features.tsv import TsvFile
from data.questions import AnswerVocabulary, Question, Questions, read_questions
from evaluation.submissions import read_submission, submission_text
from metrics.answers.tables import soft_accuracy
from tests.conftest import SHARED

KINDS = {"vqa": "submission_vqa*.json", "gqa": "submission_gqa*.json", "nlvr2": "submission_nlvr2*.csv"}
QUESTIONS = {
    "lxmert": ("vqa_train*.json", "vqa_test*.json", "gqa_train*.json", "gqa_submit*.json"),
    "lxmert-nlvr2": ("nlvr2_valid*.json",),
    "lxmert-pretraining": ("pretraining*.json",),
    "nlvr2": ("nlvr2_raw*.jsonl",),
}


def found(request: pytest.FixtureRequest, *patterns: str) -> list[Path]:
    folder = request.config.getoption("--goldens")
    if folder is None and not SHARED.is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    root = Path(folder) if folder else SHARED / "parity" / "lxmert"
    paths = {path for pattern in patterns for path in root.rglob(pattern) if "trainval" not in path.name}
    return sorted(path for path in paths if "visualbert" not in path.parts)


def test_features_decode_to_the_same_arrays(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for number, path in enumerate(found(request, "features*.tsv")):
        decoded = [file for file in sorted(path.parent.glob("*decoded*.npz")) if file.name.startswith(path.stem[:8])]
        assert len(decoded) >= 1, path
        expected = np.load(_matching(path, decoded))
        import_features([path], tmp_path / str(number), dtype="float32")
        store = FeatureStore(tmp_path / str(number))
        rows = [regions for _, regions in TsvFile(path)]
        assert len(store) == len(rows) == len({name.split("_", 1)[0] for name in expected.files})
        for row, regions in enumerate(rows):
            for one in (regions, store[regions.image_id]):
                assert one.boxes is not None
                arrays: dict[str, np.ndarray] = {"features": one.features, "boxes": one.boxes, **one.labels}
                for name, values in arrays.items():
                    np.testing.assert_array_equal(values, expected[f"{row}_{name}"])
                assert set(arrays) == {name.split("_", 1)[1] for name in expected.files if name.startswith(f"{row}_")}
        assert check_store(store.path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_submissions_are_written_alike(request: pytest.FixtureRequest, kind: str) -> None:
    for path in found(request, KINDS[kind]):
        answers = read_submission(kind, path)
        questions = [Question(key, ("a",), "?") for key in answers]
        assert submission_text(kind, questions, answers).encode() == path.read_bytes(), path


@pytest.mark.parametrize("format", QUESTIONS)
def test_questions_are_read_whole(request: pytest.FixtureRequest, format: str) -> None:
    for path in found(request, *QUESTIONS[format]):
        questions = read_questions("x", format=format, questions=path)
        text = path.read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
        _CHECKS[format](questions, records)


def test_pairs_of_both_forms_are_the_same(request: pytest.FixtureRequest) -> None:
    for path in found(request, "nlvr2_raw*.jsonl"):
        raw = {question.question_id: question for question in read_questions("x", format="nlvr2", questions=path)}
        for other in path.parent.glob("nlvr2_valid*.json"):
            for question in read_questions("x", format="lxmert-nlvr2", questions=other):
                if question.question_id in raw:
                    one = raw[question.question_id]
                    assert (one.images, one.text, one.answer) == (question.images, question.text, question.answer)


def test_the_originals_own_scores(request: pytest.FixtureRequest) -> None:
    for path in found(request, "scores*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "original_evaluator" not in content:
            continue  # another system's file
        for kind, expected in content["original_evaluator"].items():
            questions = _scored(path.parent, kind, content["predictions"][kind])
            given = content["predictions"][kind]
            if kind == "nlvr2":
                labels = [{question.answer: 1.0} for question in questions]
                predictions = [str(bool(value)) for value in given]
            else:
                labels = [dict(question.labels or {}) for question in questions]
                predictions = [given[str(question.question_id)] for question in questions]
            assert soft_accuracy(predictions, labels) == pytest.approx(expected, abs=1e-9), kind


def test_answer_tables(request: pytest.FixtureRequest) -> None:
    folder = request.config.getoption("--goldens")
    root = Path(folder) if folder else SHARED / "parity" / "lxmert"
    for path in sorted(root.rglob("*ans2label*.json")) if root.is_dir() else []:
        table = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = AnswerVocabulary.read(path)
        assert {answer: vocabulary.index_of(answer) for answer in table} == table
        other = path.with_name(path.name.replace("ans2label", "label2ans"))
        if other.exists():
            assert list(AnswerVocabulary.read(other)) == list(vocabulary)
    for path in found(request, "all_ans*.json"):
        assert list(AnswerVocabulary.read(path)) == [row["ans"] for row in json.loads(path.read_text(encoding="utf-8"))]


def _matching(path: Path, decoded: list[Path]) -> Path:
    """The arrays of a TSV file: the only ones beside it, else those whose name has the same ending."""
    ending = path.stem.removeprefix("features")
    return next(
        (file for file in decoded if file.stem.removeprefix("features").replace("_decoded", "") == ending), decoded[0]
    )


def _scored(folder: Path, kind: str, given: Any) -> Questions:
    """The questions that the predictions are of."""
    pattern, format = {
        "vqa": ("vqa_*.json", "lxmert"),
        "gqa": ("gqa_*.json", "lxmert"),
        "nlvr2": ("nlvr2_*.json", "lxmert-nlvr2"),
    }[kind]
    for path in sorted(folder.glob(pattern)):
        if "trainval" in path.name:
            continue
        questions = read_questions("x", format=format, questions=path)
        ids = {str(question.question_id) for question in questions}
        if ids == set(given) or (kind == "nlvr2" and len(ids) == len(given)):
            return questions
    raise AssertionError(f"{folder}: no questions for the predictions of {kind}")


def _check_lxmert(questions: Questions, records: Any) -> None:
    for question, record in zip(questions, records, strict=True):
        assert (question.question_id, question.images) == (record["question_id"], (record["img_id"],))
        assert (question.text, question.labels) == (record["sent"], record.get("label"))
        assert question.answer_type == record.get("answer_type", "")


def _check_pairs(questions: Questions, records: Any) -> None:
    for question, record in zip(questions, records, strict=True):
        assert question.images == (record["img0"], record["img1"])
        assert (question.question_id, question.text) == (record["identifier"], record["sent"])
        assert question.answer == ("" if "label" not in record else str(bool(record["label"])))


def _check_pretraining(questions: Questions, records: Any) -> None:
    expected = [
        (record["img_id"], source, sentence, label)
        for record in records
        for source, sentences in record["sentf"].items()
        for sentence, label in zip(sentences, record["labelf"].get(source, [None] * len(sentences)), strict=True)
    ]
    assert [(q.images[0], q.question_type, q.text, q.labels) for q in questions] == expected


def _check_raw(questions: Questions, records: Any) -> None:
    assert [(q.question_id, q.text, q.answer) for q in questions] == [
        (record["identifier"], record["sentence"], record.get("label", "")) for record in records
    ]


_CHECKS = {
    "lxmert": _check_lxmert,
    "lxmert-nlvr2": _check_pairs,
    "lxmert-pretraining": _check_pretraining,
    "nlvr2": _check_raw,
}
