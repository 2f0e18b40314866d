"""Scores candidates in threads, while the model samples the next ones."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from metrics.tokenizers import tokenizer_of
from rewards.base import END_WORD, Candidate, Reward, RewardBatch

_AT_A_TIME = 2  # submissions, at most: that of a micro-batch, and of the next one
_EPSILON = 1e-6  # against division by the deviation of equal rewards


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of M groups of K candidates.

    Attributes:
        total: [M, K] float64, the weighted sum.
        each: reward -> [M, K], as the reward gave it: neither normalised nor weighted.
        seconds: that scoring took.
    """

    total: np.ndarray
    each: dict[str, np.ndarray]
    seconds: float


class RewardCalculator:
    """One pool of threads for the whole of a run.

    Each reward of a submission is a task of its own: rewards that wait (for a server) or compute outside the
    interpreter's lock run side by side. All of them go on while the main thread waits for the device, or on a CPU for
    torch's threads. Two threads more tokenize, and put the rewards of a submission together.

    Args:
        rewards: name -> reward.
        weights: name -> weight; a reward of weight 0 is computed and reported, and adds nothing.
        workers: threads that compute rewards.
        normalise: bring each reward to mean 0 and deviation 1 over its group before weighting, so that weights compare
            rewards of different scales.
        tokenizer: a key of `metrics.tokenizers.TOKENIZERS`.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        weights: Mapping[str, float],
        *,
        workers: int,
        normalise: bool = False,
        tokenizer: str = "ptb",
    ):
        assert rewards.keys() == weights.keys()
        self.rewards = dict(rewards)
        self.weights = dict(weights)
        self.normalise = normalise
        self._tokenize = tokenizer_of(tokenizer)
        self._tokenized: dict[tuple[str, ...], list[str]] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rewards")
        self._submissions = ThreadPoolExecutor(min(workers, _AT_A_TIME), thread_name_prefix="submissions")

    def submit(
        self,
        candidates: Sequence[Sequence[Candidate]],
        references: Sequence[Sequence[str]],
        styles: Sequence[str],
        images: Sequence[str],
        soft_references: Sequence[Sequence[str]] | None = None,
    ) -> "Future[Rewards]":
        """Score M groups of K candidates each; what goes wrong is raised by the future's `result`.

        Args:
            candidates: [M][K].
            references: [M] raw captions of the image in the asked style, at least one.
            styles, images: [M].
            soft_references: [M] raw captions of the image in other styles.
        """
        return self._submissions.submit(self._score, candidates, references, styles, images, soft_references)

    def close(self) -> None:
        """End the threads; what was submitted and not begun is dropped."""
        self._submissions.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._submissions.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _score(
        self,
        candidates: Sequence[Sequence[Candidate]],
        references: Sequence[Sequence[str]],
        styles: Sequence[str],
        images: Sequence[str],
        soft_references: Sequence[Sequence[str]] | None,
    ) -> Rewards:
        started = time.perf_counter()
        batch = self._batch(candidates, references, styles, images, soft_references)
        scored = {name: self._pool.submit(reward, batch) for name, reward in self.rewards.items()}
        each = {name: self._checked(name, future.result(), batch) for name, future in scored.items()}
        total = np.zeros((len(candidates), len(candidates[0])))
        for name, values in each.items():
            total += self.weights[name] * (normalised(values) if self.normalise else values)
        return Rewards(total, each, time.perf_counter() - started)

    def _batch(
        self,
        candidates: Sequence[Sequence[Candidate]],
        references: Sequence[Sequence[str]],
        styles: Sequence[str],
        images: Sequence[str],
        soft_references: Sequence[Sequence[str]] | None,
    ) -> RewardBatch:
        for image, style, own in zip(images, styles, references, strict=True):
            if not own:
                raise ValueError(
                    f"image {image} has no reference in style {style}, and rewards need one: train on a split with "
                    "captions, or leave the image out"
                )
        width = len(candidates[0])
        flat = [candidate for group in candidates for candidate in group]
        tokens = self._tokenize([candidate.text for candidate in flat])
        tokens = [with_end(text) if one.ended else text for text, one in zip(tokens, flat, strict=True)]
        return RewardBatch(
            candidates=candidates,
            tokens=[tokens[i : i + width] for i in range(0, len(tokens), width)],
            references=[self._tokens_of(own) for own in references],
            soft_references=[self._tokens_of(soft) for soft in soft_references or [()] * len(candidates)],
            styles=styles,
            images=images,
        )

    def _tokens_of(self, references: Sequence[str]) -> list[str]:
        """Tokenized references, from memory where the image was seen before. Two threads may both tokenize: no harm."""
        key = tuple(references)
        if key not in self._tokenized:
            self._tokenized[key] = [with_end(text) for text in self._tokenize(list(key))]
        return self._tokenized[key]

    @staticmethod
    def _checked(name: str, values: Sequence[Sequence[float]], batch: RewardBatch) -> np.ndarray:
        result = np.asarray(values, dtype=np.float64)
        expected = (len(batch.candidates), len(batch.candidates[0]))
        if result.shape != expected:
            raise ValueError(f"the reward {name} gave values of shape {result.shape} for {expected} candidates")
        if not np.isfinite(result).all():
            row, column = np.argwhere(~np.isfinite(result))[0]
            text = batch.candidates[row][column].text
            raise ValueError(
                f'the reward {name} is {result[row, column]} for image {batch.images[row]}, candidate "{text}": a '
                "reward must be a finite number"
            )
        return result


def with_end(tokens: str) -> str:
    """Tokens and `END_WORD`, as a word of its own."""
    return f"{tokens} {END_WORD}".lstrip()


def normalised(values: np.ndarray) -> np.ndarray:
    """Rewards [M, K] with mean 0 and standard deviation 1 in each group; equal ones become 0."""
    centred = values - values.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(1, keepdims=True))
    return centred / np.where(deviation > _EPSILON, deviation, math.inf)
