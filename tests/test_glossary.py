"""The glossary explains every key that an evaluation writes, of each task."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import finetune
from evaluation.caption_scores import METRICS
from metrics.answers.gqa import NUMBERS, TABLES
from tasks import TASKS, task_named
from tasks.evaluating import run_evaluation
from tests.conftest import ROOT
from tests.nano_run import nano_run
from tests.tasks.answering.nano import nano as answering
from tests.tasks.pretraining.nano import nano as pretraining

#: Objects whose keys are names of the data: styles, types of questions, scores.
NAMED = {"per_style", "intervals", "signatures", "per_answer_type", "per_question_type", "beside_people", "confusion"}
EXPLAINED = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M))


def keys(found: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The keys of `metrics.json`, those of an object after its own name and a dot."""
    for name, value in found.items():
        if isinstance(value, Mapping) and name not in NAMED:
            yield from keys(value, f"{above}{name}.")
        else:
            yield above + ("accuracy (TYPE)" if name.startswith("accuracy (") else name)


def captioning(folder: Path) -> dict[str, Any]:
    return run_evaluation(nano_run(folder, eval={"bootstrap": 10}))


def of(conf: Path) -> dict[str, Any]:
    assert finetune.main(["--conf", str(conf), "--set", "train.max_steps=1", "train"]) == 0
    assert finetune.main(["--conf", str(conf), "eval"]) == 0
    return json.loads((conf.parent / "run" / "metrics.json").read_text())


EVALUATIONS = {
    "stylish-image-captioning": captioning,
    "visual-question-answering": lambda folder: of(answering(folder)),
    "vision-language-pretraining": lambda folder: of(pretraining(folder)),
}


def test_every_task_is_evaluated() -> None:
    assert set(EVALUATIONS) == {name for name, place in TASKS.items() if place.startswith("tasks.")}


@pytest.mark.parametrize("task", EVALUATIONS)
def test_the_glossary_has_every_key_that_an_evaluation_writes(task: str, tmp_path: Path) -> None:
    found = set(keys(EVALUATIONS[task](tmp_path)))
    assert len(found) > 8
    second = "style.sentences."  # the second judge is said to have the keys of the first
    assert sorted(key for key in found - EXPLAINED if key.replace(second, "style.") not in EXPLAINED) == []


def test_the_glossary_has_what_needs_a_tool_a_model_or_a_data_set() -> None:
    official = [f"gqa.{name}" for name in (*NUMBERS, *TABLES)]
    wanted = {*METRICS, "SBERT-sim", "CLIPScore", "RefCLIPScore", "CHAIRs", "CHAIRi", "clevr", "consistency", *official}
    assert sorted(wanted - EXPLAINED) == []


def test_the_glossary_has_every_control() -> None:
    controls = {name for task in EVALUATIONS for name in task_named(task).controls}
    assert sorted(controls - EXPLAINED) == []


def test_nothing_is_explained_twice() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| `", page, re.M)) == len(EXPLAINED)
