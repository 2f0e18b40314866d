"""Calibration, tables by group, majority answers and intervals."""

import math

import numpy as np
import pytest

from metrics.answers.calibration import calibration
from metrics.answers.tables import by_group, interval, majority, majority_predictions, soft_accuracy


def test_calibration_by_hand() -> None:
    # up to 0.5: confidence 0.4, accuracy 0.5; above: confidence 0.8, accuracy 0.5
    found = calibration([0.5, 0.3, 0.9, 0.7], [1, 0, 1, 0], bins=2)
    assert found.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    assert [(row.low, row.high, row.answers) for row in found.bins] == [(0, 0.5, 2), (0.5, 1, 2)]
    assert found.bins[0].confidence == pytest.approx(0.4)


def test_calibration_of_empty_bins_and_of_the_ends() -> None:
    found = calibration([0.0, 1.0], [0, 1], bins=4)
    assert found.ece == 0
    assert [row.answers for row in found.bins] == [1, 0, 0, 1]
    assert math.isnan(found.bins[1].accuracy)


@pytest.mark.parametrize(
    ("confidences", "scores", "bins", "message"),
    [
        ([], [], 2, "one of each"),
        ([0.5], [1, 1], 2, "one of each"),
        ([1.5], [1], 2, "a confidence is outside"),
        ([0.5], [math.nan], 2, "a score is outside"),
        ([0.5], [1], 0, "bins is 0"),
    ],
)
def test_calibration_refusals(confidences: list[float], scores: list[float], bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(confidences, scores, bins)


def test_groups_may_be_several() -> None:
    found = by_group([1, 0, 0.5], ["a", ("a", "b"), "b"])
    assert found == {"a": (0.5, 2), "b": (0.25, 2)}
    with pytest.raises(ValueError, match="1 scores and 0 groups"):
        by_group([1], [])


def test_majority_falls_back_to_all_answers() -> None:
    table = majority(["yes", "no", "no", "red"], ["is", "is", "is", "what"])
    assert table == {"is": "no", "what": "red", None: "no"}
    assert majority_predictions(table, ["what", "is", "how"]) == ["red", "no", "no"]
    assert majority(["b", "a"]) == {None: "b"}
    with pytest.raises(ValueError, match="no answers"):
        majority([])


def test_soft_accuracy_is_the_mean_label() -> None:
    assert soft_accuracy(["a", "b"], [{"a": 0.3}, {"a": 1.0}]) == pytest.approx(0.15)
    with pytest.raises(ValueError, match="0 predictions"):
        soft_accuracy([], [])


def test_interval_draws_whole_clusters() -> None:
    scores = [1.0] * 50 + [0.0] * 50
    alone = interval(scores, range(100))
    assert alone.low == pytest.approx(0.4, abs=0.03)
    assert alone.high == pytest.approx(0.6, abs=0.03)
    together = interval(scores, [number // 25 for number in range(100)])  # four pictures: hardly known
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert interval([0.5] * 3, "abc") == (0.5, 0.5)
    assert interval(scores, range(100), seed=3) == interval(scores, range(100), seed=3)
    with pytest.raises(ValueError, match="0 scores"):
        interval([], [])


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [interval((rng.random(40) < 0.5).tolist(), range(40), draws=200, seed=s) for s in range(100)]
    assert 85 <= sum(low <= 0.5 <= high for low, high in found) <= 100
