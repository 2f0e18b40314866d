"""Intervals and differences: against hand-computed values, other ways of computing the same, and known truths."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.bootstrap import Contributions, compare, flatten, intervals, unflatten
from metrics.bleu import bleu, bleu_statistics
from metrics.overlap import NgramOverlap

WORDS = "a the dog cat runs sits on mat red".split()


def prediction(image: str, style: str, scores: dict[str, float | None], caption="a dog", reference="a dog") -> dict:
    [statistics] = bleu_statistics(NgramOverlap([caption], [[reference]]))
    return {"image_id": image, "style": style, "caption": caption, "scores": scores, "bleu": flatten(statistics)}


def contributions(values: list[float], *, styles: int = 1, name: str = "CIDEr") -> Contributions:
    return Contributions.of(
        [prediction(str(row // styles), str(row % styles), {name: value}) for row, value in enumerate(values)]
    )


def random_predictions(seed: int, images: int = 30) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for style in ("Sweet", "Dull")[: 1 + image % 2]:
            caption, reference = (" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(2))
            rows.append(prediction(str(image), style, {"CIDEr": float(rng.random())}, caption, reference))
    return rows


# --- a draw ----------------------------------------------------------------------------------------------------------


def test_scores_are_means_and_corpus_bleu():
    rows = random_predictions(1)
    found = Contributions.of(rows).scores()
    assert found["CIDEr"] == pytest.approx(np.mean([row["scores"]["CIDEr"] for row in rows]))
    assert [found[f"BLEU-{n}"] for n in range(1, 5)] == pytest.approx(bleu([unflatten(row["bleu"]) for row in rows]))


def test_a_draw_is_the_score_of_the_images_drawn():
    """Each draw again, from copies of the captions of its images."""
    rows = random_predictions(2)
    draws = Contributions.of(rows).draws(7, seed=3)
    images = sorted({row["image_id"] for row in rows})
    drawn = np.random.default_rng(3).integers(len(images), size=(7, len(images)))
    for replicate in range(7):
        copies = [row for image in drawn[replicate] for row in rows if row["image_id"] == images[image]]
        expected = Contributions.of(copies).scores()
        for name, values in draws.items():
            assert values[replicate] == pytest.approx(expected[name], rel=1e-9)


def test_draws_do_not_depend_on_their_number_or_on_the_order_of_captions():
    rows = random_predictions(4)
    few, many = Contributions.of(rows).draws(150), Contributions.of(rows).draws(250)
    turned = Contributions.of(rows[::-1]).draws(150)
    for name in few:
        np.testing.assert_allclose(few[name][:100], many[name][:100])
        np.testing.assert_allclose(few[name], turned[name])


def test_captions_without_a_value_do_not_count():
    rows = [prediction(str(i), "S", {"style accuracy": value}) for i, value in enumerate([1.0, None, 0.0, None])]
    found = Contributions.of(rows)
    assert found.scores()["style accuracy"] == 0.5
    draws = found.draws(50)["style accuracy"]
    assert set(np.unique(draws[~np.isnan(draws)])) <= {k / n for n in range(1, 5) for k in range(n + 1)}
    low, high = intervals(found, 50)["style accuracy"]
    assert 0 <= low <= high <= 1


def test_draws_of_a_corpus_score_lie_around_it():
    rows = [prediction(str(i), "S", {"METEOR": 0.1 * (i % 3)}) for i in range(60)]
    found = Contributions.of(rows, {"METEOR": 0.5})
    assert found.scores()["METEOR"] == 0.5
    assert found.draws(500)["METEOR"].mean() == pytest.approx(0.5, abs=0.01)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_the_interval_has_the_width_of_theory():
    """Of the mean of n independent values: 2 · 1.96 standard deviations over √n."""
    values = np.random.default_rng(5).normal(size=400)
    low, high = intervals(contributions(list(values)), 2000)["CIDEr"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_images_are_drawn_and_not_captions():
    """Four captions of each image that score alike say no more than one."""
    values = np.random.default_rng(6).normal(size=100)
    one = intervals(contributions(list(values)), 1000)["CIDEr"]
    four = intervals(contributions(list(np.repeat(values, 4)), styles=4), 1000)["CIDEr"]
    assert four == pytest.approx(one)


@settings(max_examples=20)
@given(values=st.lists(st.floats(0, 10), min_size=2, max_size=20))
def test_intervals_are_within_the_values(values):
    low, high = intervals(contributions(values), 50)["CIDEr"]
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


# --- two runs --------------------------------------------------------------------------------------------------------


def test_a_run_and_itself_do_not_differ():
    rows = Contributions.of(random_predictions(7))
    for one in compare(rows, rows, 100).values():
        assert one.interval == (0.0, 0.0)
        assert not one.is_real


def test_pairing_sees_a_small_gain_in_noisy_scores():
    """0.02 more for every caption, whose scores vary by 1: beyond chance, though the intervals overlap."""
    values = list(np.random.default_rng(8).normal(size=50))
    one = compare(contributions(values), contributions([value + 0.02 for value in values]), 200)["CIDEr"]
    assert one.difference == pytest.approx(0.02)
    assert one.interval == pytest.approx((0.02, 0.02))
    assert one.is_real
    assert one.first_interval[1] > one.second_interval[0]


def test_noise_is_seldom_called_a_difference():
    rng = np.random.default_rng(9)
    real = [
        compare(contributions(list(rng.normal(size=60))), contributions(list(rng.normal(size=60))), 200)[
            "CIDEr"
        ].is_real
        for _ in range(60)
    ]
    assert sum(real) <= 10  # one in twenty is to be expected


def test_order_does_not_matter_and_other_captions_are_named():
    rows = random_predictions(10)
    one, other = Contributions.of(rows), Contributions.of(rows[::-1])
    assert compare(one, other, 50)["CIDEr"].interval == pytest.approx((0, 0), abs=1e-12)
    with pytest.raises(ValueError, match=r"1 captions are in one of them only \(29 \(Dull\)\)"):
        compare(one, Contributions.of(rows[:-1]), 50)


def test_predictions_without_contributions_say_what_to_do():
    with pytest.raises(ValueError, match="evaluate the run again"):
        Contributions.of([{"image_id": 1, "caption": "a", "style": "S"}])
