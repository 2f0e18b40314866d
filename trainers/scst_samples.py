"""A table of sampled captions with their rewards, so that one can read what a run is paid for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.base import Candidate
from rewards.calculator import Rewards
from trainers.observer import Observer, Position
from trainers.step_rows import add_rows, keep_rows

#: What was sampled last: a row each.
Sampled = Callable[[], Sequence[dict[str, Any]]]
_PROMPTS = 3  # of an update that are written


class SampleTable(Observer):
    """Writes the candidates of a few prompts each `every` updates, a line of JSON each, with the step.

    A resumed run goes on where its checkpoint was: lines after that are forgotten.
    """

    def __init__(self, file: Path, sampled: Sampled, every: int) -> None:
        self.file, self.sampled, self.every = file, sampled, every

    def run_begins(self, loop: Position) -> None:
        keep_rows(self.file, loop.step)

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        step = loop.step + 1
        if step % self.every and step != 1:
            return
        rows = list(self.sampled())
        prompts = list(dict.fromkeys((row["image_id"], row["style"]) for row in rows))[:_PROMPTS]
        add_rows(self.file, step, [row for row in rows if (row["image_id"], row["style"]) in prompts])


def sample_rows(
    requests: Sequence[Mapping[str, Any]],
    captions: Sequence[Sequence[Candidate]],
    scored: Rewards,
    *,
    kind: str,
    drawn: int,
) -> list[dict[str, Any]]:
    """A row a candidate: image, style, how it was made, caption, whether it ended, and its rewards.

    Args:
        requests: [M] with `image_id` and `style`.
        captions: [M][K], or [M][1 + K] with the greedy captions first.
        kind: how the last `drawn` of each group were made.
    """
    rows: list[dict[str, Any]] = []
    for i, (request, group) in enumerate(zip(requests, captions, strict=True)):
        for k, one in enumerate(group):
            rows.append(
                {
                    "image_id": request["image_id"],
                    "style": request["style"],
                    "kind": "greedy" if k < len(group) - drawn else kind,
                    "caption": one.text,
                    "ended": one.ended,
                    "reward": _rounded(scored.total[i, k]),
                    "rewards": {name: _rounded(values[i, k]) for name, values in scored.each.items()},
                }
            )
    return rows


def _rounded(value: float) -> float:
    return round(float(value), 4)
