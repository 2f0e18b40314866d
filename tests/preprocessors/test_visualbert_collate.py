"""Batches of VisualBERT's items: padding, choices, alignment, labels, and items that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.texts import Text
from tests.models.visualbert_nano import nano

LONG = Text([2, 7, 8, 9, 3], [0, 0, 1, 1, 1], [-1, 7, -1, -1, -1])
SHORT = Text([2, 7, 3], [0, 0, 0], [-1, -1, -1])


def features(rows: int, width: int = 6) -> np.ndarray:
    return np.full((rows, width), rows, np.float32)


def test_padding():
    batch = collate([Item([LONG], features(2), label=1), Item([SHORT], features(3), label=-1)])

    assert batch["input_ids"].tolist() == [[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]
    assert batch["text_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert batch["word_labels"].tolist() == [[-1, 7, -1, -1, -1], [-1, -1, -1, -1, -1]]
    assert batch["features"][:, :, 0].tolist() == [[2, 2, 0], [3, 3, 3]]
    assert batch["box_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [1, -1]
    assert "box_types" not in batch
    assert "alignment" not in batch
    assert nano()(**batch).loss.isfinite()


def test_optional_parts_are_there_where_all_items_have_them():
    soft = np.array([0.3, 0, 1], np.float32)
    item = Item([LONG], features(2), box_types=np.array([0, 1]), alignment=[[[1], [2, 3]]], label=soft)
    other = Item([SHORT], features(3), box_types=np.array([1, 1, 0]), alignment=[[[], [], [2]]], label=soft)

    batch = collate([item, other])

    assert batch["box_types"].tolist() == [[0, 1, 0], [1, 1, 0]]
    assert batch["alignment"].tolist() == [[[1, -1], [2, 3], [-1, -1]], [[-1, -1], [-1, -1], [2, -1]]]
    assert batch["labels"].shape == (2, 3)
    mixed = collate([item, replace(other, label=None, box_types=None, alignment=None)])
    assert not {"labels", "box_types", "alignment"} & mixed.keys()


def test_choices_keep_their_axis():
    item = Item([LONG, SHORT, SHORT, LONG], features(2), alignment=[[[1]], [[]], [[2]], [[]]], label=3)

    batch = collate([item, item], choices=True)

    assert batch["input_ids"].shape == (2, 4, 5)
    assert batch["alignment"][0, :, 0, 0].tolist() == [1, -1, 2, -1]
    batch.pop("word_labels")
    assert nano("vcr")(**batch).logits.shape == (2, 4)


def test_features_in_half_precision_are_widened_by_the_model():
    half = Item([LONG], features(2).astype(np.float16))

    assert collate([half])["features"].dtype == torch.float16
    assert collate([half, Item([LONG], features(2))])["features"].dtype == torch.float32
    assert torch.equal(nano()(**collate([half])).logits, nano()(**collate([Item([LONG], features(2))])).logits)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "at least one item"),
        ([Item([LONG], features(2)), Item([LONG], features(2, 5))], r"item 1 has features \[2, 5\].*takes 6 numbers"),
        ([Item([LONG], features(2, 5))], r"item 0 has features \[2, 5\].*takes 6 numbers"),
        ([Item([LONG, LONG], features(2))], "one without choices"),
        ([Item([LONG], features(2)), Item([LONG, LONG], features(2))], "as many each"),
        ([Item([SHORT], features(2), alignment=[[[1], [3]]])], r"word pieces \[3\], beyond the text of 3"),
        ([Item([SHORT], features(2), alignment=[[[-1]]])], "beyond the text"),
        ([Item([SHORT], features(1), alignment=[[[1], [1]]])], "aligns 2 regions, but the batch has 1"),
        ([Item([SHORT], features(1), alignment=[])], "not as many alignments as texts"),
    ],
)
def test_items_that_do_not_fit_are_named(items, reason):
    with pytest.raises(ValueError, match=reason):
        collate(items, feature_width=6)
