"""The numbers of GQA (Hudson and Manning, 2019), as the evaluation script released with the data computes them.

Questions, choices and predictions are what the official files hold: question id -> record, id -> {valid, plausible},
id -> answer. Answers are compared as they are, letter case included. Only balanced questions are scored; the entailed
ones that consistency asks for may be unbalanced.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

# Key of a score -> its name in the official output, in that order.
NUMBERS = {
    "binary": "Binary",
    "open": "Open",
    "accuracy": "Accuracy",
    "consistency": "Consistency",
    "validity": "Validity",
    "plausibility": "Plausibility",
    "distribution": "Distribution",
}
TABLES = ("accuracyPerStructuralType", "accuracyPerSemanticType", "accuracyPerSteps", "accuracyPerLength")
# Questions about a shared property take any of these as valid and plausible, and nothing else.
_COMMON = ("color", "material", "shape")
# Steps that only name the answer are not counted.
_NAMING = ("exist", "query: name", "choose name")

Question = Mapping[str, Any]


def gqa_scores(
    questions: Mapping[str, Question],
    predictions: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    *,
    consistency: bool = True,
) -> dict[str, Any]:
    """The keys of `NUMBERS` -> percent, `distribution` -> chi-square / 100 (lower is better), and `TABLES` ->
    {type or number: [percent, questions]}.

    `validity` and `plausibility` need `choices`. Nothing to average counts as 0.

    Raises ValueError for a question without prediction, choices or a record.
    """
    lists: dict[str, list[float]] = {key: [] for key in ("accuracy", "binary", "open")}
    tables: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in TABLES}
    balanced = {key: question for key, question in questions.items() if question["isBalanced"]}
    for key, question in balanced.items():
        score = float(_predicted(predictions, key) == question["answer"])
        lists["accuracy"].append(score)
        lists["open" if question["types"]["structural"] == "query" else "binary"].append(score)
        for name, value in zip(TABLES, _groups(question), strict=True):
            tables[name][value].append(score)
    if choices is not None:
        for kind, name in (("valid", "validity"), ("plausible", "plausibility")):
            lists[name] = [
                _belongs(predictions[key], key, question, choices, kind) for key, question in balanced.items()
            ]
    if consistency:
        lists["consistency"] = _consistency(questions, balanced, predictions)
    scores: dict[str, Any] = {name: 100 * _mean(values) for name, values in lists.items()}
    scores["distribution"] = _distribution(balanced, predictions) / 100
    return scores | {
        name: {value: [100 * _mean(found), len(found)] for value, found in sorted(table.items(), key=_order)}
        for name, table in tables.items()
    }


def gqa_lines(scores: Mapping[str, Any]) -> list[str]:
    """The lines that the official script prints for these scores."""
    lines = []
    for key, name in NUMBERS.items():
        if key == "distribution":
            lines.append(f"{name}: {scores[key]:.2f} (lower is better)")
        elif key in scores:
            lines.append(f"{name}: {scores[key]:.2f}%")
    return lines


def _groups(question: Question) -> tuple[str, str, str, str]:
    """Where a question stands in each of `TABLES`."""
    types = question["types"]
    steps = (f"{step['operation']}: {step['argument']}" for step in question["semantic"])
    counted = sum(not any(name in step for name in _NAMING) for step in steps)
    return types["structural"], types["semantic"], str(counted), str(len(question["question"].split()))


def _predicted(predictions: Mapping[str, str], key: str) -> str:
    if key not in predictions:
        raise ValueError(f"question {key}: no prediction: answer every question, the entailed ones too")
    return predictions[key]


def _belongs(
    answer: str, key: str, question: Question, choices: Mapping[str, Mapping[str, Sequence[str]]], kind: str
) -> float:
    if "Common" in question["types"]["detailed"]:
        return float(answer in _COMMON)
    if key not in choices:
        raise ValueError(f"question {key}: it is not among the choices: use the choices of this split")
    return float(answer in choices[key][kind])


def _consistency(
    questions: Mapping[str, Question], balanced: Mapping[str, Question], predictions: Mapping[str, str]
) -> list[float]:
    """For each question answered right that entails others: the share of those answered right."""
    found = []
    for key, question in balanced.items():
        entailed = [other for other in question["entailed"] if other != key]
        if entailed and predictions[key] == question["answer"]:
            for other in entailed:
                if other not in questions:
                    raise ValueError(f"question {key} entails {other}, which is not there: score the whole file")
            found.append(_mean([_predicted(predictions, other) == questions[other]["answer"] for other in entailed]))
    return found


def _distribution(balanced: Mapping[str, Question], predictions: Mapping[str, str]) -> float:
    """Chi-square of the answers of each global group, weighted by the group's size; answers that are right nowhere in
    a group are ignored there.
    """
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for key, question in balanced.items():
        group = question["groups"]["global"]
        if group is not None:
            gold[group][question["answer"]] += 1
            given[group][predictions[key]] += 1
    total = sum(answers.total() for answers in gold.values())
    weighted = (
        answers.total() * sum((given[group][answer] - count) ** 2 / count for answer, count in answers.items())
        for group, answers in gold.items()
    )
    return sum(weighted) / total if total else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _order(row: tuple[str, list[float]]) -> tuple[int, str]:
    """Numbers by size, names by letter."""
    return (int(row[0]), "") if row[0].isdigit() else (-1, row[0])
