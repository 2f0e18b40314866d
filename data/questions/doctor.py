"""The doctor of questions: what is wrong with the splits before anybody trains on them.

Besides what a split lacks it looks for leaks: a picture, or a picture with its question, that is in two splits, so that
a score on the second is partly memory.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data.questions.records import Question, Questions
from data.questions.vocabulary import AnswerVocabulary

_EXAMPLES = 5  # of each kind in a report
_MEANING = {
    "missing_image": "questions whose picture is missing",
    "missing_feature": "questions whose picture has no features",
    "empty": "questions without a word",
    "duplicate_id": "questions with the id of an earlier one",
    "no_answer": "questions without an answer",
    "unknown_answer": "questions none of whose answers is in the vocabulary",
}
_FAULTS = ("missing_image", "missing_feature", "empty", "duplicate_id")


@dataclass(frozen=True)
class SplitReport:
    """What `examine` found in one split; `rows` is keyed by kind.

    `faults` keep a question from being trained on or scored, `warnings` do not; both count questions, above zero only.
    `answers` are the most frequent ones with their shares of all.
    """

    split: str
    questions: int
    images: int
    answer_types: dict[str, int]
    question_types: dict[str, int]
    top_answers: dict[str, float]
    faults: dict[str, int]
    warnings: dict[str, int]
    examples: dict[str, list[str]]
    rows: dict[str, np.ndarray]  # int64


@dataclass(frozen=True)
class Leak:
    """What two splits share: pictures, and questions (the same text about the same pictures, letter case aside).

    `second_questions` are how many of the second split's questions are about shared pictures, `second_repeated` how
    many repeat a question of the first.
    """

    first: str
    second: str
    images: int
    second_questions: int
    second_repeated: int
    examples: list[str]


@dataclass(frozen=True)
class QuestionReport:
    """Every split's report, and the leaks between them."""

    splits: dict[str, SplitReport]
    leaks: list[Leak]

    @property
    def healthy(self) -> bool:
        """Whether there is neither a fault nor a leak."""
        return not self.leaks and not any(split.faults for split in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, as plain values for `json.dumps`."""
        splits = {name: {k: v for k, v in asdict(split).items() if k != "rows"} for name, split in self.splits.items()}
        return {"splits": splits, "leaks": [asdict(leak) for leak in self.leaks]}

    def to_text(self) -> str:
        """The report for a terminal."""
        lines: list[str] = []
        for split in self.splits.values():
            lines += [f"{split.split}: {split.questions} questions about {split.images} pictures"]
            for title, counts in (("answer type", split.answer_types), ("question type", split.question_types)):
                lines += [f"  {title} {name}: {count}" for name, count in counts.items() if name]
            lines += [f"  answer {answer!r}: {share:.1%}" for answer, share in split.top_answers.items()]
            for title, found in (("FAULT", split.faults), ("warning", split.warnings)):
                for kind, count in found.items():
                    lines += [f"  {title} {_MEANING[kind]}: {count}", *(f"    {one}" for one in split.examples[kind])]
            lines += [] if split.faults else ["  no faults"]
        for leak in self.leaks:
            lines += [
                f"LEAK {leak.first} -> {leak.second}: {leak.images} shared pictures, {leak.second_questions} questions "
                f"of {leak.second} about them, of which {leak.second_repeated} repeat a question",
                *(f"    {one}" for one in leak.examples),
            ]
        return "\n".join(lines if self.leaks else [*lines, "no leaks"] if len(self.splits) > 1 else lines)


def examine(
    splits: Mapping[str, Questions],
    *,
    vocabulary: AnswerVocabulary | None = None,
    has_image: Callable[[str], bool] | None = None,
    has_feature: Callable[[str], bool] | None = None,
) -> QuestionReport:
    """Looks at every question. `has_image` and `has_feature` say of an image id whether it is there (the `__contains__`
    of `Pictures` and of a `FeatureStore`); without them, and without `vocabulary`, these are not looked for.
    """
    reports = {
        name: _examine(name, questions, vocabulary, {"missing_image": has_image, "missing_feature": has_feature})
        for name, questions in splits.items()
    }
    return QuestionReport(reports, find_leaks(splits))


def find_leaks(splits: Mapping[str, Questions]) -> list[Leak]:
    """What any two splits share, in the order given; nothing for pairs that share nothing."""
    images = {name: set(questions.image_ids) for name, questions in splits.items()}
    names = list(splits)
    leaks = []
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            shared = images[first] & images[second]
            if shared:
                leaks.append(_leak(first, second, splits, shared))
    return leaks


def drop_bad(questions: Questions, report: SplitReport) -> tuple[Questions, dict[str, int]]:
    """The split without the questions at fault, and how many each kind cost (the first of a question's faults counts).

    Raises ValueError if no question is left.
    """
    bad = np.zeros(len(questions), dtype=bool)
    skipped = {}
    for kind in report.faults:
        skipped[kind] = int((~bad[report.rows[kind]]).sum())
        bad[report.rows[kind]] = True
    if bad.all():
        raise ValueError(
            f"{questions.name}: every question is at fault ({report.faults}): correct the data or the folders"
        )
    return (questions.take(np.flatnonzero(~bad).tolist()) if bad.any() else questions), skipped


@dataclass
class _Findings:
    """What one pass collects, by kind."""

    rows: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, row: int, example: str) -> None:
        self.rows[kind].append(row)
        if len(self.examples[kind]) < _EXAMPLES:
            self.examples[kind].append(example)


def _examine(
    name: str,
    questions: Questions,
    vocabulary: AnswerVocabulary | None,
    there: Mapping[str, Callable[[str], bool] | None],
) -> SplitReport:
    found = _Findings()
    tests = {kind: (has, {image: has(image) for image in questions.image_ids}) for kind, has in there.items() if has}
    seen: set[Any] = set()
    answers: Counter[str] = Counter()
    for row, question in enumerate(questions):
        for kind, (_, present) in tests.items():
            absent = [image for image in question.images if not present[image]]
            if absent:
                found.add(kind, row, f"question {question.question_id}: {absent[0]}")
        if not any(character.isalnum() for character in question.text):
            found.add("empty", row, f"question {question.question_id}: {question.text!r}")
        if question.question_id in seen:
            found.add("duplicate_id", row, f"question {question.question_id}: {question.text!r}")
        seen.add(question.question_id)
        answers.update(question.references[:1] if not question.answer else [question.answer])
        _examine_answers(row, question, vocabulary, found)
    return _report(name, questions, found, answers)


def _examine_answers(row: int, question: Question, vocabulary: AnswerVocabulary | None, found: _Findings) -> None:
    if not question.references:
        found.add("no_answer", row, f"question {question.question_id}: {question.text!r}")
    elif vocabulary is not None and not any(answer in vocabulary for answer in question.references):
        found.add("unknown_answer", row, f"question {question.question_id}: {question.references[0]!r}")


def _report(name: str, questions: Questions, found: _Findings, answers: Counter[str]) -> SplitReport:
    counts = {kind: len(found.rows[kind]) for kind in _MEANING if found.rows[kind]}
    total = max(1, answers.total())
    return SplitReport(
        split=name,
        questions=len(questions),
        images=len(questions.image_ids),
        answer_types=dict(questions.tally("answer_type").most_common()),
        question_types=dict(questions.tally("question_type").most_common()),
        top_answers={answer: count / total for answer, count in answers.most_common(_EXAMPLES)},
        faults={kind: count for kind, count in counts.items() if kind in _FAULTS},
        warnings={kind: count for kind, count in counts.items() if kind not in _FAULTS},
        examples={kind: found.examples[kind] for kind in counts},
        rows={kind: np.array(found.rows[kind], dtype=np.int64) for kind in counts},
    )


def _leak(first: str, second: str, splits: Mapping[str, Questions], shared: set[str]) -> Leak:
    known = {_key(question) for question in _about(splits[first], shared)}
    about = list(_about(splits[second], shared))
    repeated = [question for question in about if _key(question) in known]
    examples = [f"{question.images[0]}: {question.text!r}" for question in repeated[:_EXAMPLES]]
    return Leak(first, second, len(shared), len(about), len(repeated), examples or sorted(shared)[:_EXAMPLES])


def _about(questions: Sequence[Question], images: set[str]) -> Iterable[Question]:
    return (question for question in questions if images.intersection(question.images))


def _key(question: Question) -> tuple[tuple[str, ...], str]:
    return question.images, " ".join(question.text.casefold().split())
