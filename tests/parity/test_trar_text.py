"""TRAR's reading of questions and answers against the public code's: ids, vocabularies, targets, reports, lists."""

import json
from typing import Any

import numpy as np
import pytest

from data.demo.next_to import guess_right, next_to
from data.questions.clevr import read_clevr
from data.questions.records import Question
from data.questions.vocabulary import AnswerVocabulary
from metrics.answers.clevr import clevr_report, clevr_scores
from preprocessors.grids import grid_cells
from preprocessors.soft_targets import answer_target
from preprocessors.words import VQA_WORDS, Vocabulary, longest
from tests.parity.conftest import Golden


@pytest.mark.goldens("text_vqa*", system="trar", when=lambda case: "rows" in case and "targets_bce" in case["rows"][0])
def test_questions_of_vqa(golden: Golden) -> None:
    """Words of the test and Visual Genome questions, whose text is not in the case, come after those of its rows."""
    case = golden.json
    vocabulary = Vocabulary.of(row["question"] for row in case["rows"])
    expected = sorted(case["token_to_ix"], key=case["token_to_ix"].get)
    assert list(vocabulary.words) == expected[: len(vocabulary)]
    for row in case["rows"]:
        assert vocabulary.encode(row["question"], VQA_WORDS) == row["ids"], row["question"]
    assert case["embedding_shape"][0] == len(expected)
    assert [row["question_id"] for row in case["rows"]] == case["train_order"]


@pytest.mark.goldens("text_vqa*", system="trar", when=lambda case: "rows" in case and "targets_bce" in case["rows"][0])
@pytest.mark.parametrize("kind", ["bce", "kld"])
def test_targets_of_vqa(golden: Golden, kind: str) -> None:
    """Over the answers that some row's target has: of the full list only those are known here."""
    rows = golden.json["rows"]
    listed = dict.fromkeys(answer for row in rows for answer in row[f"targets_{kind}"])
    answers = AnswerVocabulary(listed, normalise="vqa")
    for row in rows:
        question = Question(row["question_id"], (row["image_id"],), row["question"], answers=tuple(row["answers"]))
        target = answer_target(question, answers, kind)
        found = {answers[number]: target[number].item() for number in target.nonzero().flatten().tolist()}
        assert found == pytest.approx(row[f"targets_{kind}"], abs=1e-6), row["answers"]


@pytest.mark.goldens("text_vqa*", system="trar", when=lambda case: "feature_pad" in case)
def test_features_are_padded(golden: Golden) -> None:
    pad = golden.json["feature_pad"]
    for name, (cells, width) in ((name, shape) for name, shape in pad.items() if isinstance(shape, list)):
        rows = int(name.split()[0])
        padded = grid_cells(np.ones((rows, width), dtype=np.float16), cells=cells, width=width)
        assert padded.shape == (cells, width)
        assert str(padded.dtype) == pad["dtype"]
        assert (padded == 0).all(1).sum() == max(0, cells - rows)
    assert any(pad["zero rows"] == shape[0] - int(name.split()[0]) for name, shape in pad.items() if "rows in" in name)


@pytest.mark.goldens("text_clevr*", system="trar", when=lambda case: "max_token" in case)
def test_questions_of_clevr(golden: Golden) -> None:
    case = golden.json
    splits = [case["questions"][name] for name in ("train", "val", "test")]
    texts = [question["question"] for split in splits for question in split]
    vocabulary = Vocabulary.of(texts)
    assert vocabulary.ids == case["token_to_ix"]
    assert longest(texts) == case["max_token"]
    answers = _clevr_answers(case)
    assert {answer: number for number, answer in enumerate(answers)} == case["ans_to_ix"]
    for question, row in zip(splits[0], case["rows"], strict=False):
        assert vocabulary.encode(question["question"], case["max_token"]) == row["ids"]
        record = Question(0, (row["image"],), question["question"], answer=question["answer"])
        assert answer_target(record, answers, "ce").tolist() == row["target"]


@pytest.mark.goldens("text_clevr*", system="trar", when=lambda case: "prediction_file" in case)
def test_predictions_of_clevr(golden: Golden, tmp_path: Any) -> None:

    case = golden.json
    answers = _clevr_answers(case)
    predictions = [answers[number] for number in case["predicted_answer_numbers"]]
    assert "".join(f"{answer}\n" for answer in predictions) == case["prediction_file"]
    (tmp_path / "val.json").write_text(json.dumps({"questions": case["questions"]["val"]}))
    asked = list(read_clevr(tmp_path / "val.json"))
    scores = clevr_scores(predictions, [q.answer for q in asked], [q.question_type for q in asked])
    assert clevr_report(scores) == case["report"]


def _clevr_answers(case: dict[str, Any]) -> AnswerVocabulary:
    """Of the training and validation questions, by first appearance."""
    asked = [question for name in ("train", "val") for question in case["questions"][name]]
    records = [Question(row, ("",), q["question"], answer=q["answer"]) for row, q in enumerate(asked)]
    return AnswerVocabulary.build(records, order="appearance")


@pytest.mark.goldens("answer_list*", system="trar", when=lambda case: "multiple_choice_answer_counts" in case)
def test_answers_kept_from_counts(golden: Golden) -> None:
    """Listed one by one, every other one a training answer; the training answers are read first."""
    case = golden.json
    listed = [answer for answer, count in case["multiple_choice_answer_counts"].items() for _ in range(count)]
    records = [Question(row, ("",), "", answer=answer) for row, answer in enumerate(listed[::2] + listed[1::2])]
    kept = AnswerVocabulary.build(records, min_count=9, normalise="vqa", order="appearance")
    assert {answer: number for number, answer in enumerate(kept)} == case["ans_to_ix"]
    assert {str(number): answer for number, answer in enumerate(kept)} == case["ix_to_ans"]


@pytest.mark.goldens("task_next_to*", system="trar", when=lambda case: "guessing" in case)
def test_guessing_in_the_drawn_task(golden: Golden) -> None:
    expected = golden.json["guessing"]["most frequent colour among all 7 objects, on 1024 samples"]
    assert guess_right(next_to(np.random.RandomState(1), 1024)) == pytest.approx(expected, abs=0.06)
