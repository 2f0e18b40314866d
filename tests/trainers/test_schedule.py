"""Learning rates at the corners of every schedule, and their shape between them."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.schedule import learning_rate

SCHEDULES = ("linear", "polynomial", "cosine")


def rates(total: int, **changes: Any) -> list[float]:
    """The rate of every update, and what would follow the last."""
    settings: dict[str, Any] = {"lr": 1.0, "lr_end": 0.2, "warmup_proportion": 0.1, "schedule": "linear"}
    return [learning_rate(step, total=total, **(settings | changes)) for step in range(total + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_corners(schedule):
    # 20 updates, the first 2 of them warm-up: 1/2, 2/2 of the peak; then 18 that fall, with update 11 in the middle.
    rate = rates(20, schedule=schedule)
    assert rate[:3] == [0.5, 1.0, 1.0]
    assert rate[11] == pytest.approx(0.6)  # (1 + 0.2) / 2, on the line and on the cosine alike
    assert rate[20] == pytest.approx(0.2)


def test_quarter_of_the_cosine_and_of_the_line():
    # After 2 of 8 updates: cos(pi / 4) = 0.70711, so 0.2 + 0.8 · (1 + 0.70711) / 2 = 0.88284; the line: 1 - 0.8 / 4.
    assert rates(8, warmup_proportion=0, schedule="cosine")[2] == pytest.approx(0.88284, abs=1e-5)
    assert rates(8, warmup_proportion=0, schedule="linear")[2] == pytest.approx(0.8)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warmup_the_first_update_has_the_peak(schedule):
    assert rates(5, warmup_proportion=0.0, schedule=schedule)[0] == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_past_the_end_the_rate_stays(schedule):
    assert learning_rate(99, total=10, lr=1.0, lr_end=0.25, warmup_proportion=0.1, schedule=schedule) == pytest.approx(
        0.25
    )


@given(
    total=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
    lr_end=st.floats(0, 1),
    schedule=st.sampled_from(SCHEDULES),
)
def test_rises_then_falls_without_jumps(total, warmup, lr_end, schedule):
    rate = rates(total, warmup_proportion=warmup, lr_end=lr_end, schedule=schedule)
    top = int(total * warmup)
    assert all(a < b for a, b in pairwise(rate[:top]))
    assert rate[top] == max(rate) == 1.0
    falling = list(pairwise(rate[top:]))
    assert all(a >= b for a, b in falling)
    # No step is larger than the steepest place of a line or a half cosine over the same updates (slope pi / 2).
    assert all(a - b <= (1 - lr_end) * 1.5709 / max(1, total - top) + 1e-9 for a, b in falling)
    assert rate[total] == pytest.approx(lr_end)
    assert min(rate) > 0 or lr_end == 0
