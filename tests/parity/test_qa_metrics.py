"""The official evaluators of VQA v2, GQA, CLEVR, NLVR2 and NLVR: every score of every golden file."""

import gzip
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from data.questions.answer_text import normalise_answer, strip_whitespace
from metrics.answers import clevr, gqa, nlvr, vqa
from tests.conftest import SHARED
from tests.parity.conftest import Golden

EXACT = 1e-9


def _format(name: str) -> Any:
    return lambda content: isinstance(content, dict) and str(content.get("format", "")).startswith(name)


def _cases(rows: list[dict[str, Any]]) -> list[vqa.Case]:
    return [
        vqa.Case(row["prediction"], row["answers"], row.get("answer_type", ""), row.get("question_type", ""))
        for row in rows
    ]


def _check_vqa(found: vqa.VqaScores, expected: dict[str, Any]) -> None:
    assert found.overall == expected["overall"]
    assert found.per_answer_type == expected["perAnswerType"]
    assert found.per_question_type == expected["perQuestionType"]


@pytest.mark.goldens("vqa*", system="qa_metrics", when=_format("VQA"))
def test_vqa_accuracy(golden: Golden) -> None:
    rows = golden.json["cases"]
    found = vqa.vqa_scores(_cases(rows))
    _check_vqa(found, golden.json["accuracy"])
    assert [100 * share for share in found.each] == pytest.approx([row["accuracy_exact"] for row in rows], abs=EXACT)
    assert [vqa.percent([score]) for score in found.each] == [row["accuracy"] for row in rows]
    if "subset" in golden.json:
        chosen = set(golden.json["subset"]["question_ids"])
        subset = vqa.vqa_scores(_cases([row for row in rows if row["question_id"] in chosen]))
        _check_vqa(subset, golden.json["subset"]["accuracy"])


@pytest.mark.goldens("vqa*", system="qa_metrics", when=_format("VQA"))
def test_vqa_normalisation(golden: Golden) -> None:
    for row in golden.json["cases"]:
        assert normalise_answer(row["prediction"]) == row["prediction_normalised"]
        assert [normalise_answer(answer) for answer in row["answers"]] == row["answers_normalised"]
        assert (len({strip_whitespace(answer) for answer in row["answers"]}) > 1) == row["normalised_before_comparison"]


@pytest.mark.goldens("vqa*", system="qa_metrics", when=_format("VQA"))
def test_vqa_answers_without_an_id_leave_together(golden: Golden) -> None:
    rows = golden.json.get("no_answer_id", {"cases": []})["cases"]
    for row in rows:
        score = vqa.accuracy(row["prediction"], row["answers"], marks=[None] * len(row["answers"]))
        assert vqa.percent([score]) == row["accuracy"]
    if rows:
        each = [vqa.accuracy(row["prediction"], row["answers"], [None] * len(row["answers"])) for row in rows]
        assert vqa.percent(each) == golden.json["no_answer_id"]["accuracy"]["overall"]


@pytest.mark.goldens("vqa*", system="qa_metrics", when=_format("VQA"))
def test_vqa_follows_python_2_where_the_versions_differ(golden: Golden) -> None:
    for row in golden.json.get("interpreter_dependent", []):
        assert normalise_answer(row["prediction"]) == row["python2"]["prediction_normalised"]
        score = vqa.accuracy(row["prediction"], row["answers"])
        assert vqa.percent([score]) == row["python2"]["accuracy"]


@pytest.mark.goldens("gqa*", system="qa_metrics", when=_format("GQA"))
def test_gqa_scores_and_lines(golden: Golden) -> None:
    predictions = {row["questionId"]: row["prediction"] for row in golden.json["predictions"]}
    for name, expected in golden.json["expected"].items():
        choices = None if "no_choices" in name else golden.json["choices"]
        found = gqa.gqa_scores(golden.json["questions"], predictions, choices, consistency="no_consistency" not in name)
        assert set(found) == set(expected["scores"])
        for key, value in expected["scores"].items():
            if isinstance(value, dict):
                assert set(found[key]) == set(value), key
                for row, numbers in value.items():
                    assert found[key][row] == pytest.approx(numbers, abs=EXACT), (key, row)
            else:
                assert found[key] == pytest.approx(value, abs=EXACT), key
        assert gqa.gqa_lines(found) == expected["lines"]


@pytest.mark.goldens("clevr*", system="qa_metrics", when=_format("CLEVR"))
def test_clevr_families(golden: Golden) -> None:
    questions = golden.json["questions"]
    found = clevr.clevr_scores(
        golden.json["predictions"],
        [question["answer"] for question in questions],
        [question["function"] for question in questions],
    )
    expected = {name: row for name, row in golden.json["expected"].items() if row["total"]}
    assert set(found) == set(expected)
    for name, row in expected.items():
        assert (found[name].correct, found[name].total) == (row["correct"], row["total"]), name
        assert found[name].percent == pytest.approx(row["percent"], abs=0.0051), name  # two digits there


@pytest.mark.goldens("nlvr*", system="qa_metrics", when=_format("NLVR"))
def test_nlvr2_accuracy_and_consistency(golden: Golden) -> None:
    toss = _coin(golden.json["coin"])
    for name, expected in golden.json.get("nlvr2", {}).items():
        if "predictions" in expected:
            labels = {row["identifier"]: row["label"] for row in expected["examples"]}
            found = nlvr.nlvr2_scores(labels, dict(expected["predictions"]))
            assert found == _scores(expected["expected"]), name
            continue
        labels = _nlvr2_labels(name, golden.path.parent)
        assert len(labels) == expected["examples"]
        _check_nlvr(labels, toss, expected, lambda given, labels=labels: nlvr.nlvr2_scores(labels, given), labels)


@pytest.mark.goldens("nlvr*", system="qa_metrics", when=_format("NLVR"))
def test_nlvr1_accuracy_and_consistency(golden: Golden) -> None:
    toss = _coin(golden.json["coin"])
    for split, expected in golden.json.get("nlvr1", {}).items():
        labels = _labels(_lines("nlvr1", f"{split}.jsonl", golden.path.parent))
        assert len(labels) == expected["examples"]
        _check_nlvr(
            labels, toss, expected["structured"], lambda given, labels=labels: nlvr.nlvr1_scores(labels, given), labels
        )
        images = [image for identifier in labels for image in nlvr.nlvr1_images(split, identifier)]
        _check_nlvr(
            labels,
            toss,
            expected["images"],
            lambda given, split=split, labels=labels: nlvr.nlvr1_image_scores(split, labels, given),
            images,
        )


def _check_nlvr(labels: dict[str, str], toss: Any, expected: dict[str, Any], score: Any, identifiers: Any) -> None:
    ways = {
        "all_true": lambda identifier: "True",
        "all_false": lambda identifier: "False",
        "coin": lambda identifier: str(toss(identifier)),
        "oracle_lowercase": lambda identifier: labels[identifier].lower(),
    }
    for name, row in expected.items():
        if name != "examples":
            assert score({key: ways[name](key) for key in identifiers}) == _scores(row), name


def _scores(row: dict[str, float]) -> Any:
    return pytest.approx((row.get("accuracy", row.get("precision")), row["consistency"]), abs=EXACT)


def _coin(text: str) -> Any:
    """The rule as the file words it: True when byte N of sha256(identifier) is even, or odd."""
    match = re.search(r"byte (\d+).*\b(even|odd)\b", text)
    assert match is not None, text
    byte, rest = int(match[1]), int(match[2] == "odd")
    return lambda identifier: sha256(identifier.encode()).digest()[byte] % 2 == rest


def _nlvr2_labels(name: str, folder: Path) -> dict[str, str]:
    """Of a split, or of the balanced or unbalanced part of one."""
    part, _, split = name.rpartition("_")
    labels = _labels(_lines("nlvr2_text", f"{split}.jsonl.gz", folder))
    if not part:
        return labels
    return {identifier: labels[identifier] for identifier in _lines("nlvr2_text", f"{name}_ids.txt", folder)}


def _labels(lines: list[str]) -> dict[str, str]:
    return {row["identifier"]: row["label"] for row in map(json.loads, lines)}


def _lines(data_set: str, name: str, folder: Path) -> list[str]:
    """Of an annotation file: among the shared data, else beside the golden file."""
    paths = [SHARED / "data" / data_set / name, *folder.rglob(name)]
    path = next((path for path in paths if path.exists()), None)
    assert path is not None, f"{name}: the annotations that the scores are of are not there"
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return text.decode("utf-8").splitlines()
