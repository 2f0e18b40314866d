"""Two groups of runs against each other: what may be said of a method, and not only of one run of it.

The bootstrap has two levels: images are drawn once for all runs, and of each group as many runs as it has, with
replacement. Runs of one group differ in their seed; means of n drawn ones vary by (n - 1) / n of what means of n seeds
do, so that their deviations are widened by √(n / (n - 1)) (Davison and Hinkley, Bootstrap Methods, 1997, section 2.3).
"""

from collections.abc import Sequence

import numpy as np

from evaluation.bootstrap import SEED, Contributions, Difference, check_same, differences


def compare_groups(
    first: Sequence[Contributions], second: Sequence[Contributions], replicates: int, seed: int = SEED
) -> dict[str, Difference]:
    """metric -> the mean scores of both groups and their difference, for the metrics that all runs have.

    Raises ValueError for runs that captioned different things.
    """
    for other in [*first[1:], *second]:
        check_same(first[0], other)
    # What is drawn of one group does not depend on how many runs the other has.
    seeds = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    groups = [_group(runs, replicates, seed, rng) for runs, rng in zip((first, second), seeds, strict=True)]
    return differences(groups[0], groups[1])


def _group(
    runs: Sequence[Contributions], replicates: int, seed: int, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """metric -> the mean score of the runs, and its draws [R]."""
    scores, draws = [run.scores() for run in runs], [run.draws(replicates, seed) for run in runs]
    weights = run_weights(len(runs), replicates, rng)
    names = [
        name for name in scores[0] if all(name in one and name in many for one, many in zip(scores, draws, strict=True))
    ]
    means = {name: float(np.mean([one[name] for one in scores])) for name in names}
    return means, {name: (weights * np.stack([many[name] for many in draws], axis=1)).sum(1) for name in names}


def run_weights(runs: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """[R, runs] the weight of each run in each draw, summing to 1; deviations from 1/n are widened as said above."""
    if runs == 1:
        return np.ones((replicates, 1))
    drawn = rng.integers(runs, size=(replicates, runs))
    counts = np.stack([(drawn == run).sum(1) for run in range(runs)], axis=1) / runs
    return 1 / runs + (counts - 1 / runs) * np.sqrt(runs / (runs - 1))


def statement(first: int, second: int) -> str:
    """What a difference beyond its interval says, and no more: of so many runs on each side."""
    if first == second == 1:
        return (
            "95% intervals, paired over images; * the difference is beyond image sampling: other images would show it, "
            "another seed may not"
        )
    if first == 1 or second == 1:
        return (
            f"95% intervals over images and the {max(first, second)} runs of one side; * the difference is beyond "
            "both, but the other side is one run: another seed of it may not show it"
        )
    few = "; with so few runs take an interval as rough" if min(first, second) < 5 else ""
    return (
        f"95% intervals over images and seeds ({first} and {second} runs); * the difference is beyond both: other "
        f"images and other seeds would show it{few}"
    )
