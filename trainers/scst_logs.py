"""What step 2 logs of its candidates, and the warnings that follow from it.

Logs are pairs (sum, number of units), as `ObjectiveOutput.logs` wants them.
Shapes: M prompts, K candidates, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metrics.style import likeness_of_styles
from rewards.calculator import Rewards
from trainers.health import DIFFERENT, Warnings
from trainers.observer import Observer, Position

Logs = dict[str, tuple[Tensor, float]]

WINDOW = 50  # updates that are averaged before anything is concluded
_SAME_REWARD = 1e-6


def reward_logs(rewards: Rewards, num_candidates: int) -> Logs:
    """Mean and standard deviation of each reward over the candidates, greedy captions left out."""
    logs: Logs = {}
    for name, values in {"": rewards.total, **rewards.each}.items():
        candidates = torch.as_tensor(values[:, values.shape[1] - num_candidates :])
        suffix = f"/{name}" if name else ""
        logs[f"reward{suffix}"] = (candidates.sum(), candidates.numel())
        logs[f"reward_std{suffix}"] = (candidates.std(correction=0), 1)
        if name == "style":
            logs["style_accuracy"] = ((candidates > 0).sum(), candidates.numel())
    if rewards.total.shape[1] > num_candidates:
        greedy = torch.as_tensor(rewards.total[:, 0])
        logs["reward/greedy"] = (greedy.sum(), greedy.numel())
    return logs


def advantage_logs(rewards: Tensor, advantage: Tensor) -> Logs:
    """Spread of the advantages, and the share of prompts whose candidates [M, K] all have the same reward."""
    same = rewards.amax(1) - rewards.amin(1) <= _SAME_REWARD
    return {"advantage_std": (advantage.std(correction=0), 1), "zero_spread": (same.sum(), same.numel())}


def candidate_logs(tokens: Tensor, eos: int, pad: int) -> Logs:
    """Length in tokens without eos, share that ended, and share of duplicates within a prompt, of tokens [M, K, T]."""
    groups = tokens.tolist()
    total = tokens.shape[0] * tokens.shape[1]
    ended = tokens.eq(eos).any(-1)
    length = tokens.ne(pad).sum() - ended.sum()
    distinct = sum(len({tuple(candidate) for candidate in group}) for group in groups)
    return {
        "length": (length, total),
        "ended": (ended.sum(), total),
        "duplicates": (torch.tensor(total - distinct), total),
    }


def variety_logs(images: Sequence[str], styles: Sequence[str], captions: Sequence[Sequence[str]]) -> Logs:
    """How much candidates [M][K] differ where they should, of the image and the style of each prompt.

    `different`: share of different ones among those of different prompts, the k-th of each at a time; what one prompt
    says twice does not count. `style_likeness`: as `metrics.style.likeness_of_styles`, where an image has two styles.
    """
    columns = [set(column) for column in zip(*captions, strict=True)]
    logs: Logs = {DIFFERENT: (torch.tensor(sum(map(len, columns))), len(columns) * len(captions))}
    found = likeness_of_styles(images, styles, captions)
    return logs | ({"style_likeness": (torch.tensor(sum(found)), len(found))} if found else {})


@dataclass
class HealthCheck:
    """Compares windows of updates with the first one, and says once what goes wrong and what to change."""

    window: int = WINDOW
    _sums: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _seen: int = 0
    _first: dict[str, float] | None = None
    _told: set[str] = field(default_factory=set)

    def state(self) -> dict[str, Any]:
        """What `resume` takes: a resumed run compares with the first window of all."""
        kept = {"sums": self._sums, "counts": self._counts, "seen": self._seen, "first": self._first}
        return kept | {"told": sorted(self._told)}

    def resume(self, state: dict[str, Any]) -> None:
        self._sums, self._seen, self._first = state["sums"], state["seen"], state["first"]
        self._told = set(state["told"])
        self._counts = state.get("counts", dict.fromkeys(self._sums, self._seen))  # earlier versions kept none

    def update(self, logs: dict[str, float]) -> list[str]:
        """Take the logs of one update; returns warnings that have not been given before, at the end of a window."""
        for name, value in logs.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._seen += 1
        if self._seen < self.window:
            return []
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts, self._seen = {}, {}, 0
        self._first = self._first or means
        found = warnings(means, self._first)
        new = [text for kind, text in found.items() if kind not in self._told]
        self._told |= found.keys()
        return new


def warnings(now: dict[str, float], first: dict[str, float]) -> dict[str, str]:
    """What is wrong with the averages of a window, given those of the first window: kind -> advice."""
    found = {}
    if now["zero_spread"] > 0.9:
        found["spread"] = (
            f"{now['zero_spread']:.0%} of the prompts have candidates of equal reward, so nothing is learnt from them: "
            "raise scst.num_candidates or scst.temperature, or look whether scst.rewards fit the data"
        )
    if now["ended"] < 0.5 or now["ended"] < 0.8 * first["ended"]:
        found["ended"] = (
            f"only {now['ended']:.0%} of the candidates end (first {first['ended']:.0%}): raise scst.max_len_b, or add "
            'the reward "ending"'
        )
    if not 0.6 * first["length"] <= now["length"] <= 1.5 * first["length"]:
        found["length"] = (
            f"candidates have {now['length']:.1f} tokens and had {first['length']:.1f}: lower train.lr, or set "
            "scst.cross_entropy_weight or scst.kl_weight"
        )
    if now["entropy"] < 0.1 * first["entropy"]:
        found["entropy"] = (
            f"the entropy of a token fell from {first['entropy']:.2f} to {now['entropy']:.2f} nats, candidates are "
            "nearly all alike: lower train.lr, or set scst.kl_weight"
        )
    if now.get("style_accuracy", 1.0) < 0.8 * first.get("style_accuracy", 0.0):
        found["style"] = (
            f"{now['style_accuracy']:.0%} of the candidates have the asked style, and "
            f"{first['style_accuracy']:.0%} had it first: "
            'raise the weight of the reward "style" in scst.rewards'
        )
    alike, was = now.get("style_likeness", 0.0), first.get("style_likeness", 0.0)
    if 1 - alike < 0.7 * (1 - was):
        found["alike"] = (
            f"candidates of one image in different styles grow alike: they share {alike:.0%} of their words, and first "
            f'{was:.0%}: raise the weight of the reward "style" in scst.rewards, set scst.kl_weight, or lower '
            "scst.soft_references"
        )
    if now.get(DIFFERENT, 1.0) < 0.8 * first.get(DIFFERENT, 0.0):
        found["different"] = (
            f"{now[DIFFERENT]:.0%} of the candidates are different from image to image and style to style, and first "
            f"{first[DIFFERENT]:.0%}: lower train.lr, or set scst.kl_weight or scst.cross_entropy_weight"
        )
    return found


class HealthWatch(Observer):
    """Warns while a run of step 2 goes wrong, not after it."""

    def __init__(self, told: Warnings) -> None:
        self.told = told
        self.check = HealthCheck()

    def run_begins(self, loop: Position) -> None:
        self.told.keep(loop.step)

    def update_ended(self, loop: Position, logs: dict[str, float]) -> None:
        if "skipped" in logs:
            return
        for text in self.check.update(logs):
            self.told.tell(loop.step + 1, text)

    def state(self) -> dict[str, Any]:
        return self.check.state()

    def resume(self, state: dict[str, Any]) -> None:
        self.check.resume(state)
