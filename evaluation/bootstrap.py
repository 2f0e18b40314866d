"""How far scores would move with other images, and whether a difference between two runs is more than that.

The bootstrap (Efron and Tibshirani, 1993; for corpus scores Koehn, 2004) draws as many images as there are, with
replacement, and scores them again. Images are drawn and not captions, for captions of one image share its luck. Two
runs are compared on the same draws. Nothing is scored anew: what each caption contributes is kept (`Contributions`), so
that CIDEr keeps the document frequencies of the whole set, and a thousand draws take a moment.

Shapes: N captions, I images, R draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from metrics.bleu import BleuStatistics, bleu
from metrics.ngrams import MAX_ORDER

BLEU = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))
LEVEL = 0.95  # of an interval
SEED = 1
_CHUNK = 100  # draws at a time: memory does not grow with their number


@dataclass(frozen=True)
class Contributions:
    """What each caption adds to the scores of a set.

    Attributes:
        keys: (image, style or question) of each prediction.
        bleu: [N, 10] int64: `BleuStatistics`, flat; [N, 0] where the predictions are no captions.
        each: metric -> [N] values whose mean is the score; NaN where a caption has none.
        overall: metric -> the score of all captions, where it is not that mean (METEOR): its draws are moved there.
    """

    keys: tuple[tuple[str, str], ...]
    bleu: np.ndarray
    each: dict[str, np.ndarray]
    overall: dict[str, float]

    @classmethod
    def of(cls, predictions: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any] | None = None) -> "Contributions":
        """From what `predictions.json` holds, and for METEOR what `metrics.json` does.

        Raises ValueError for predictions without contributions.
        """
        if any("scores" not in row for row in predictions):
            raise ValueError("the predictions hold no scores of each caption: evaluate the run again")
        names = list(dict.fromkeys(name for row in predictions for name in row["scores"]))
        columns = {name: [row["scores"].get(name) for row in predictions] for name in names}
        each = {name: np.array([np.nan if v is None else v for v in values], float) for name, values in columns.items()}
        overall = {"METEOR": float(metrics["METEOR"])} if metrics and metrics.get("METEOR") is not None else {}
        return cls(
            keys=tuple(
                (str(row["image_id"]), str(row.get("style", row.get("question_id", "")))) for row in predictions
            ),
            bleu=np.array([row.get("bleu", ()) for row in predictions], dtype=np.int64),
            each={name: values for name, values in each.items() if name not in BLEU},
            overall={name: score for name, score in overall.items() if name in each},
        )

    def draws(self, replicates: int, seed: int = SEED) -> dict[str, np.ndarray]:
        """metric -> [R] scores of so many draws of images; the same seed draws the same ones for the same images."""
        _, image = np.unique([key[0] for key in self.keys], return_inverse=True)
        columns = np.column_stack([self.bleu, *self.each.values()]) if self.each else self.bleu.astype(float)
        there = ~np.isnan(columns)
        images = int(image.max()) + 1
        sums, counts = (_per_image(values, image, images) for values in (np.where(there, columns, 0), there))
        parts = [(weights @ sums, weights @ counts) for weights in _image_weights(images, replicates, seed)]
        total, number = (np.concatenate(part) for part in zip(*parts, strict=True))
        statistics = total[:, : self.bleu.shape[1]]
        found: dict[str, np.ndarray] = {}
        if self.bleu.size:
            found = dict(zip(BLEU, np.array([bleu([unflatten(row)]) for row in statistics]).T, strict=True))
        for column, (name, values) in enumerate(self.each.items(), start=self.bleu.shape[1]):
            with np.errstate(invalid="ignore"):  # no caption of a draw has a value: NaN
                found[name] = total[:, column] / number[:, column]
            if name in self.overall:
                found[name] += self.overall[name] - np.nanmean(values)
        return found

    def scores(self) -> dict[str, float]:
        """metric -> score of all captions."""
        found = dict(zip(BLEU, bleu([unflatten(self.bleu.sum(0))]), strict=True)) if self.bleu.size else {}
        found |= {name: float(np.nanmean(values)) for name, values in self.each.items() if not np.isnan(values).all()}
        return found | self.overall


class Difference(NamedTuple):
    """A metric of two runs, with the interval of each and that of second minus first."""

    first: float
    second: float
    first_interval: tuple[float, float]
    second_interval: tuple[float, float]
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first

    @property
    def is_real(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def flatten(statistics: BleuStatistics) -> list[int]:
    """What one caption contributes to BLEU as ten numbers."""
    return [*statistics.correct, *statistics.total, statistics.length, statistics.reference_length]


def unflatten(numbers: Any) -> BleuStatistics:
    """The inverse of `flatten`."""
    values = [int(number) for number in numbers]
    return BleuStatistics(tuple(values[:MAX_ORDER]), tuple(values[MAX_ORDER:-2]), values[-2], values[-1])


def intervals(contributions: Contributions, replicates: int) -> dict[str, list[float]]:
    """metric -> [low, high], the 95% interval; metrics that no draw could compute are left out."""
    return {name: list(_interval(draws)) for name, draws in contributions.draws(replicates).items() if _any(draws)}


def compare(first: Contributions, second: Contributions, replicates: int) -> dict[str, Difference]:
    """Both runs on the same draws: metric -> their scores and difference, for the metrics that both have.

    Raises ValueError, naming the first few, for captions that one of them lacks.
    """
    check_same(first, second)
    return differences(
        (first.scores(), first.draws(replicates)),
        (second.scores(), second.draws(replicates)),
    )


def differences(
    first: tuple[Mapping[str, float], Mapping[str, np.ndarray]],
    second: tuple[Mapping[str, float], Mapping[str, np.ndarray]],
) -> dict[str, Difference]:
    """(metric -> score, metric -> [R] draws) of two sides, on the same draws."""
    scores, draws = (first[0], second[0]), (first[1], second[1])
    return {
        name: Difference(
            scores[0][name],
            scores[1][name],
            _interval(draws[0][name]),
            _interval(draws[1][name]),
            _interval(draws[1][name] - draws[0][name]),
        )
        for name in scores[0]
        if name in scores[1] and _any(draws[0][name]) and _any(draws[1][name])
    }


def check_same(first: Contributions, second: Contributions) -> None:
    """ValueError, naming the first few, for captions that one of them lacks."""
    one, other = set(first.keys), set(second.keys)
    if one != other:
        odd = sorted(one ^ other)
        named = ", ".join(f"{image} ({style})" for image, style in odd[:5])
        raise ValueError(
            f"the runs captioned different things: {len(odd)} captions are in one of them only ({named}"
            f"{', ...' if len(odd) > 5 else ''}); evaluate both on the same split"
        )


def _image_weights(images: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, float64 [up to 100, I] at a time, R rows in all."""
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, _CHUNK):
        rows = min(_CHUNK, replicates - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(float)


def _per_image(values: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """[N, C] -> [I, C] sums over the captions of each image."""
    return np.column_stack([np.bincount(image, column, minlength=images) for column in values.T])


def _interval(draws: np.ndarray) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def _any(draws: np.ndarray) -> bool:
    return not np.isnan(draws).all()
