"""Several runs a side: bootstrap over images and seeds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import finetune
from data.files import write_json
from evaluation.bootstrap import compare
from evaluation.seeds import compare_groups, run_weights, statement
from tests.evaluation.test_bootstrap import contributions, random_predictions


def test_one_run_a_side_is_the_paired_bootstrap_over_images():
    first, second = contributions([0.1, 0.5, 0.9, 0.4]), contributions([0.3, 0.5, 0.8, 0.9])
    assert compare_groups([first], [second], 200) == compare(first, second, 200)


def test_scores_are_means_of_the_runs():
    first = [contributions([0.1, 0.5]), contributions([0.3, 0.7])]
    second = [contributions([0.9, 0.5]), contributions([0.3, 0.7]), contributions([0.6, 0.6])]
    found = compare_groups(first, second, 100)["CIDEr"]
    assert found.first == pytest.approx(0.4)
    assert found.second == pytest.approx(0.6)


def test_weights_sum_to_one_and_vary_as_means_of_as_many_seeds_do():
    weights = run_weights(3, 20_000, np.random.default_rng(1))
    np.testing.assert_allclose(weights.sum(1), 1)
    values = np.array([0.2, 0.5, 0.95])
    assert (weights @ values).std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.02)
    assert run_weights(1, 2, np.random.default_rng(1)).tolist() == [[1.0], [1.0]]


def test_seeds_that_differ_widen_the_interval_beyond_that_of_images():
    """The same difference on every image, but seeds that vary more than it: no claim is left."""
    images = np.linspace(0, 1, 40)
    base = [contributions(list(images + seed)) for seed in (-0.3, 0.0, 0.3)]
    better = [contributions(list(images + 0.1 + seed)) for seed in (-0.3, 0.0, 0.3)]
    assert compare(base[1], better[1], 500)["CIDEr"].is_real
    together = compare_groups(base, better, 500)["CIDEr"]
    assert together.difference == pytest.approx(0.1)
    assert not together.is_real
    steady = [contributions(list(images + 0.1 + seed)) for seed in (-0.001, 0.0, 0.001)]
    still = [contributions(list(images + seed)) for seed in (-0.001, 0.0, 0.001)]
    assert compare_groups(still, steady, 500)["CIDEr"].is_real


def test_the_statement_is_as_wide_as_the_data():
    assert "another seed may not" in statement(1, 1)
    assert "the other side is one run" in statement(1, 3)
    assert "3 and 3 runs" in statement(3, 3)
    assert "rough" in statement(3, 5)
    assert "rough" not in statement(5, 5)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str, int], str]:
    def make(name: str, seed: int, images: int = 30) -> str:
        folder = tmp_path / name
        folder.mkdir()
        write_json(folder / "predictions.json", random_predictions(seed, images))
        write_json(folder / "metrics.json", {})
        return str(folder)

    return make


def test_the_command(run, capsys):
    rng_free = [run("a1", 1), run("a2", 2)], [run("b1", 3), run("b2", 4), run("b3", 5)]
    assert finetune.main(["compare", *rng_free[0], "--against", *rng_free[1], "--bootstrap", "50"]) == 0
    told = capsys.readouterr().out
    assert "mean of 3 runs" in told.splitlines()[0]
    assert "3 and 2 runs" in told.splitlines()[-1]
    assert finetune.main(["compare", rng_free[0][0], rng_free[1][0], "--bootstrap", "50"]) == 0
    assert "another seed may not" in capsys.readouterr().out


def test_bad_input(run, capsys):
    one, two, three = run("one", 1), run("two", 2), run("three", 3)
    assert finetune.main(["compare", one, two, three]) == 2
    assert "--against" in capsys.readouterr().err
    assert finetune.main(["compare", one, "--against", two, one]) == 2
    assert "is named twice" in capsys.readouterr().err
    other = run("other", 3, 20)
    assert finetune.main(["compare", one, two, "--against", other]) == 2
    assert "captioned different things" in capsys.readouterr().err
