from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Split, training_groups
from data.groups import packed_groups
from data.samples import Row


def _split(captions: list[int]) -> Split:
    rows = [Row(f"{j}.jpg", str(j), "Sweet", f"{j} {n}") for j, count in enumerate(captions) for n in range(count)]
    return Split("train", ["Sweet"], rows)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 10), st.integers(0, 99), st.integers(0, 99))
def test_groups_partition_the_captions_by_image(captions, k, seed, epoch):
    split = _split(captions)
    groups = training_groups(split, k, seed, epoch)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(split)))
    by_image: dict[int, list[int]] = {}
    for group in groups:
        (image,) = set(split.row_images[group].tolist())
        by_image.setdefault(image, []).append(len(group))
    for image, count in enumerate(captions):
        sizes = by_image[image]
        assert max(sizes) <= k
        assert len(sizes) == -(-count // k)  # no more groups than needed
        assert max(sizes) - min(sizes) <= 1


def _as_lists(groups: list[np.ndarray]) -> list[list[int]]:
    return [group.tolist() for group in groups]


def test_the_same_seed_and_epoch_give_the_same_groups_and_others_do_not():
    split = _split([7] * 20)
    first = _as_lists(training_groups(split, 3, 7, 0))
    assert _as_lists(training_groups(split, 3, 7, 0)) == first
    assert _as_lists(training_groups(split, 3, 7, 1)) != first
    assert _as_lists(training_groups(split, 3, 8, 0)) != first


def test_an_epoch_changes_the_composition_and_the_order():
    split = _split([6] * 30)
    epochs = [training_groups(split, 3, 7, epoch) for epoch in range(2)]
    composition = [{frozenset(group.tolist()) for group in groups} for groups in epochs]
    assert composition[0] != composition[1]
    order = [[int(split.row_images[group[0]]) for group in groups] for groups in epochs]
    assert order[0] != order[1]
    assert order[0] != sorted(order[0])


def test_a_limit_below_one_is_an_error():
    with pytest.raises(ValueError, match=r"train\.captions_per_image is 0"):
        training_groups(_split([1]), 0, 7, 0)


def _two_styles() -> Split:
    """Each image has five captions in one style and two in the other."""
    rows = [Row(f"{j}.jpg", str(j), "Factual", f"{j} {n}") for j in range(30) for n in range(5)]
    rows += [Row(f"{j}.jpg", str(j), "Sweet", f"{j} sweet {n}") for j in range(30) for n in range(2)]
    return Split("train", ["Factual", "Sweet"], rows)


@pytest.mark.parametrize(("most", "of_each"), [(1, (1, 1)), (3, (3, 2)), (9, (5, 2))])
def test_at_most_so_many_captions_of_a_request_are_in_an_epoch(most, of_each):
    split = _two_styles()
    rows, bounds = packed_groups(split, 9, 7, 0, captions_per_request=most)
    assert len(bounds) - 1 == 30
    for start, stop in pairwise(bounds):
        group = [split[row] for row in rows[start:stop]]
        assert len({sample.image_id for sample in group}) == 1
        assert len({sample.caption for sample in group}) == len(group)
        assert tuple(sum(sample.style == style for sample in group) for style in split.styles) == of_each


def test_all_captions_of_a_request_have_their_turn():
    split = _two_styles()
    seen = [set(packed_groups(split, 9, 7, epoch, captions_per_request=2)[0].tolist()) for epoch in range(20)]
    assert seen[0] != seen[1]
    assert set().union(*seen) == set(range(len(split)))


def test_no_caption_of_a_request_is_an_error():
    with pytest.raises(ValueError, match=r"train\.captions_per_request is 0"):
        packed_groups(_two_styles(), 4, 7, 0, captions_per_request=0)
