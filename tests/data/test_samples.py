import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Sample, Split
from data.samples import PackedStrings, Row

text = st.text(max_size=12)
rows = st.lists(
    st.builds(
        lambda j, style, caption: Row(f"/im/ü{j}.jpg", f"ü{j}", style, caption),
        st.integers(0, 5),
        st.sampled_from(["Sweet", "Cynical", "Zen 禅"]),
        text,
    ),
    min_size=1,
    max_size=40,
)


@given(st.lists(st.text(st.characters(), max_size=8), max_size=20))
def test_packed_strings_round_trip_any_unicode(strings):
    packed = PackedStrings(strings)
    assert list(packed) == strings
    assert list(pickle.loads(pickle.dumps(packed))) == strings
    assert packed[1:3] == tuple(strings[1:3])


def test_lone_surrogates_from_json_escapes_survive():
    assert PackedStrings(["a\ud800b"])[0] == "a\ud800b"


@given(rows)
def test_every_row_comes_back_with_its_references(given_rows):
    split = Split("train", ["Sweet", "Cynical"], given_rows)
    samples = list(split)
    seen = sorted((s.image, s.image_id, s.style, s.caption) for s in samples)
    assert seen == sorted(tuple(row) for row in given_rows)
    for sample in samples:
        expected = tuple(r.caption for r in given_rows if (r.image, r.style) == (sample.image, sample.style))
        assert sample.references == expected
    assert set(split.unknown_styles) == {r.style for r in given_rows} - {"Sweet", "Cynical"}


@given(rows)
def test_rows_of_an_image_partition_the_split(given_rows):
    split = Split("train", ["Sweet", "Cynical", "Zen 禅"], given_rows)
    together = np.concatenate([split.image_rows(j) for j in range(split.n_images)])
    assert together.tolist() == list(range(len(split)))
    for j in range(split.n_images):
        assert {split[i].image_id for i in split.image_rows(j)} == {split.image_ids[j]}
        assert (split.row_images[split.image_rows(j)] == j).all()


@given(rows)
def test_requests_are_the_distinct_image_style_pairs(given_rows):
    requests = Split("val", ["Sweet"], given_rows).requests()
    pairs = [(r.image_id, r.style) for r in requests]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == {(r.image_id, r.style) for r in given_rows}
    assert all(r.caption == r.references[0] for r in requests)
    assert [r.image_id for r in requests] == sorted(
        (r.image_id for r in requests), key=list(dict.fromkeys(r.image_id for r in given_rows)).index
    )


@given(rows)
def test_samples_and_pickles_rebuild_the_same_split(given_rows):
    split = Split("train", ["Sweet"], given_rows)
    assert list(Split.from_samples(split, "train", split.styles)) == list(split)
    assert list(pickle.loads(pickle.dumps(split))) == list(split)


def _split() -> Split:
    data = [Row(f"{j}.jpg", str(j), style, f"{style} {j}") for j in range(4) for style in ("Sweet", "Cynical")]
    return Split("train", ("Sweet", "Cynical"), data)


def test_pickle_holds_buffers_and_no_sample_objects():
    rows = [Row(f"{j}.jpg", str(j), "Sweet", f"caption {j}") for j in range(5000)]
    size = sum(len("".join(row[:2])) + len(row.caption) for row in rows)
    # 8 bytes of offset for each of three strings and 16 of group table a row, and no more than that.
    assert len(pickle.dumps(Split("train", ["Sweet"], rows), protocol=5)) < size + 5000 * 56 + 4000


def test_subset_and_take_keep_order_and_style_list():
    split = _split()
    part = split.subset(["2", "0"])
    assert [s.image_id for s in part] == ["0", "0", "2", "2"]
    assert part.styles == split.styles
    assert [s.caption for s in split.take([0, 3])] == ["Sweet 0", "Cynical 1"]


def test_subset_names_an_unknown_id():
    with pytest.raises(ValueError, match="no image with id '9'"):
        _split().subset(["1", "9"])


def test_negative_and_out_of_range_indices():
    split = _split()
    assert split[-1] == split[len(split) - 1]
    with pytest.raises(IndexError):
        split[len(split)]


def test_an_empty_split_is_an_error():
    with pytest.raises(ValueError, match="the split is empty"):
        Split("val", ["Sweet"], [])


def test_one_id_for_two_files_is_an_error():
    with pytest.raises(ValueError, match=r"'7' means both a\.jpg and b\.jpg"):
        Split("val", ["Sweet"], [Row("a.jpg", "7", "Sweet", "x"), Row("b.jpg", "7", "Sweet", "y")])


def test_a_sample_is_immutable():
    with pytest.raises(AttributeError):
        _split()[0].caption = "other"  # type: ignore[misc]
    assert isinstance(_split()[0], Sample)
