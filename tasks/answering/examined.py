"""The doctor's report on one split of questions, and its leaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.questions.doctor import Leak, QuestionReport, SplitReport


@dataclass(frozen=True)
class Examined:
    """A split's report, and what it shares with the split of training."""

    split: SplitReport
    leaks: Sequence[Leak]

    @property
    def faults(self) -> dict[str, int]:
        """Kind -> questions; those about pictures of the training split are leaks."""
        leaked = sum(leak.second_questions for leak in self.leaks)
        return self.split.faults | ({"leak": leaked} if leaked else {})

    def to_json(self) -> dict[str, Any]:
        return self._report().to_json()

    def to_text(self) -> str:
        return self._report().to_text()

    def _report(self) -> QuestionReport:
        return QuestionReport({self.split.split: self.split}, list(self.leaks))
