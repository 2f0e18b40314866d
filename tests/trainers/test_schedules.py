"""Learning-rate schedules by name, at points worked out by hand."""

import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.schedules import SCHEDULES, learning_rate_of, make_schedule, phased_rate, rate_after


def at(name: str, *points: float, **options: float) -> list[float]:
    return [make_schedule(name, **options)(point) for point in points]


def test_a_line_from_the_end_of_the_warm_up_to_the_floor() -> None:
    assert at("warmup_linear", 0, 0.1, 0.2, 0.6, 1, 1.5, warmup=0.2) == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    assert at("warmup_linear", 0.2, 0.6, 1, 1.5, warmup=0.2, floor=0.1) == pytest.approx([1, 0.55, 0.1, 0.1])
    assert at("warmup_linear_yx", 0.6, 1, 1.4, warmup=0.2, floor=0.1) == pytest.approx([0.55, 0.1, -0.35])


def test_half_a_cosine_after_the_warm_up() -> None:
    expected = [0.5, 1, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0, 0]
    assert at("warmup_cosine", 0.1, 0.2, 0.4, 0.6, 1, 2, warmup=0.2) == pytest.approx(expected)
    assert at("warmup_cosine", 0.6, 1, warmup=0.2, floor=0.2) == pytest.approx([0.6, 0.2])


def test_a_stair_falls_every_few_epochs() -> None:
    stair = make_schedule("warmup_stair", warmup=0.1, epochs=9, every=3, factor=0.5)
    updates = [epoch / 9 for epoch in range(9)]
    assert [stair(update) for update in updates[1:]] == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert stair(0.05) == 0.5


def test_vqa_constant_falls_at_the_fifth_and_seventh_epoch() -> None:
    epochs = [make_schedule("vqa_constant", epochs=8)((epoch + 0.5) / 8) for epoch in range(8)]
    assert epochs == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    earlier = make_schedule("vqa_constant", epochs=4, drops=(1,), factor=0.5)
    assert [earlier(update / 4) for update in range(4)] == [1, 0.5, 0.5, 0.5]


@given(st.sampled_from(sorted(SCHEDULES.keys() - {"warmup_linear_yx"})), st.floats(0, 2), st.floats(0, 0.9))
def test_a_factor_is_between_0_and_1(name: str, progress: float, warmup: float) -> None:
    assert 0 <= make_schedule(name, warmup=warmup, epochs=10)(progress) <= 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("warmup_exp", {}, "unknown schedule 'warmup_exp': choose one of constant, warmup_constant"),
        ("warmup_linear", {"warmup": 1.0}, "warmup is 1.0; it is a share"),
        ("warmup_stair", {}, "counts epochs: say how many"),
        ("warmup_stair", {"epochs": 3, "every": 0}, "every is 0 epochs"),
        ("warmup_linear", {"flor": 0.1}, "no option flor: they are floor"),
    ],
)
def test_settings_that_cannot_be(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_schedule(name, **options)


def test_rates_by_name_are_those_of_their_schedules() -> None:
    settings: dict[str, Any] = {"lr": 2e-3, "lr_end": 2e-4, "warmup_proportion": 0.1, "epochs": 10}
    old = learning_rate_of("cosine", **settings)
    assert [old(step, 100) for step in (0, 9, 100)] == pytest.approx([2e-4, 2e-3, 2e-4])
    linear = learning_rate_of("warmup_linear", **settings)
    assert [linear(step, 100) for step in (0, 5, 10, 55, 100)] == pytest.approx([0, 1e-3, 2e-3, 1.1e-3, 2e-4])
    dropped = learning_rate_of("vqa_constant", drops=[4, 6], factor=0.1, **settings)
    assert [dropped(step, 100) for step in (39, 40, 60)] == pytest.approx([2e-3, 2e-4, 2e-5])


def test_phases_each_begin_their_schedule_anew() -> None:
    line = learning_rate_of("linear", lr=1.0, lr_end=0.0, warmup_proportion=0.0, epochs=1)
    rate = phased_rate([(4, line), (2, lambda step, total: 10 * line(step, total))])
    # what the whole run has does not matter: one that is cut short is not squeezed
    assert [rate(step, 5) for step in range(7)] == pytest.approx([1, 0.75, 0.5, 0.25, 10, 5, 5])


def test_a_warm_up_of_so_many_updates() -> None:
    of_share = partial(learning_rate_of, "warmup_linear", lr=1.0, lr_end=0.0, epochs=1)
    rate = rate_after(4, lambda share: of_share(warmup_proportion=share))
    assert [rate(step, 8) for step in (0, 2, 4, 6)] == pytest.approx([0, 0.5, 1, 0.5], abs=1e-5)
    assert [rate(step, 3) for step in (0, 2)] == pytest.approx([0, 0.5], abs=1e-5)  # a shorter run: still on its way up
