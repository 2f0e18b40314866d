"""Batches: padding, index ranges and shapes for any items, and one batch written out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessors.collate import collate


def make_item(prompts, captions, *, size=2, mask=True, starts=None):
    return {
        "patch_image": torch.zeros(3, size, size),
        "patch_mask": mask,
        "prompts": [torch.tensor([0, *prompt, 2]) for prompt in prompts],
        "captions": [(row, torch.tensor([*caption, 2])) for row, caption in captions],
        "starts": starts or [0] * len(captions),
        "requests": [{"image_id": "x", "style": str(row), "references": ()} for row, _ in captions],
    }


def test_two_images_by_hand():
    first = make_item([[7, 8], [7]], [(1, [11]), (0, [12, 13]), (1, [14, 15, 16])])
    second = make_item([[9]], [(0, [])], mask=False)
    batch = collate([first, second])
    assert batch["patch_images"].shape == (2, 3, 2, 2)
    assert batch["patch_masks"].tolist() == [True, False]
    assert batch["padded"]
    assert batch["input_ids"].tolist() == [[0, 7, 8, 2], [0, 7, 2, 1], [0, 9, 2, 1]]
    assert batch["image_index"].tolist() == [0, 0, 1]
    assert batch["encoder_index"].tolist() == [1, 0, 1, 2]
    assert batch["target"].tolist() == [[11, 2, 1, 1], [12, 13, 2, 1], [14, 15, 16, 2], [2, 1, 1, 1]]
    assert batch["target_index"].tolist() == [0, 1, 4, 5, 6, 8, 9, 10, 11, 12]
    assert batch["decoder_input_ids"].tolist() == [[0, 11, 1, 1], [0, 12, 13, 1], [0, 14, 15, 16], [0, 1, 1, 1]]
    assert [request["style"] for request in batch["requests"]] == ["1", "0", "1", "0"]
    assert list(batch) == [
        "patch_images",
        "patch_masks",
        "padded",
        "image_index",
        "input_ids",
        "encoder_index",
        "decoder_input_ids",
        "even",
        "target",
        "target_index",
        "requests",
        "asked",
    ]


def test_what_is_asked_for_are_the_pairs_of_prompt_and_start():
    first = make_item([[7]], [(0, [11]), (0, [12]), (0, [13])], starts=[5, 6, 5])
    second = make_item([[7]], [(0, [14]), (0, []), (0, [15])], starts=[6, 6, 5])
    batch = collate([first, second])
    assert batch["decoder_input_ids"][:, 0].tolist() == [5, 6, 5, 6, 6, 5]
    asked = batch["asked"]
    assert (asked.prompts, asked.starts) == ([0, 0, 1, 1], [5, 6, 6, 5])
    assert asked.index == [0, 1, 0, 2, 2, 3]
    assert [request is batch["requests"][n] for request, n in zip(asked.requests, (0, 1, 3, 5), strict=True)] == [
        True
    ] * 4


def test_captions_are_even_where_every_prompt_has_as_many_side_by_side():
    one, two = [(0, [11])], [(0, [11]), (0, [12])]
    apart = [(0, [11]), (1, [12]), (0, [13]), (1, [14])]
    assert collate([make_item([[7]], two), make_item([[8]], two)])["even"]
    assert not collate([make_item([[7]], two), make_item([[8]], one)])["even"]
    assert not collate([make_item([[7], [8]], apart)])["even"]


@pytest.mark.parametrize(
    ("prompts", "mask", "padded"),
    [([[7, 8], [9, 3]], True, False), ([[7, 8], [9]], True, True), ([[7, 8], [9, 3]], False, True)],
)
def test_whether_anything_is_padded_is_known_without_looking_at_tensors(prompts, mask, padded):
    items = [make_item([prompt], [(0, [11, 12])], mask=mask or row == 0) for row, prompt in enumerate(prompts)]
    assert collate(items)["padded"] is padded


WORDS = st.lists(st.integers(3, 99), max_size=6)


@st.composite
def items(draw):
    prompts = draw(st.lists(WORDS, min_size=1, max_size=3))
    rows = st.integers(0, len(prompts) - 1)
    return make_item(prompts, draw(st.lists(st.tuples(rows, WORDS), min_size=1, max_size=4)), mask=draw(st.booleans()))


@settings(max_examples=100, deadline=None)
@given(batch_items=st.lists(items(), min_size=1, max_size=4))
def test_any_batch(batch_items):
    batch = collate(batch_items)
    prompts = [prompt for item in batch_items for prompt in item["prompts"]]
    captions = [(i, row, target) for i, item in enumerate(batch_items) for row, target in item["captions"]]
    assert batch["input_ids"].shape == (len(prompts), max(map(len, prompts)))
    assert (
        batch["target"].shape == batch["decoder_input_ids"].shape == (len(captions), max(len(t) for *_, t in captions))
    )
    for ids, prompt in zip(batch["input_ids"], prompts, strict=True):
        assert ids[: len(prompt)].equal(prompt)
        assert (ids[len(prompt) :] == 1).all()
    for n, (i, row, target) in enumerate(captions):
        encoder_row = batch["encoder_index"][n]
        assert batch["image_index"][encoder_row] == i
        assert batch["input_ids"][encoder_row][batch["input_ids"][encoder_row] != 1].equal(
            batch_items[i]["prompts"][row]
        )
        padding = batch["target"][n] == 1
        assert batch["target"][n][~padding].equal(target)
        assert (batch["decoder_input_ids"][n] == 1).equal(padding)  # both sides have the same length
        assert batch["decoder_input_ids"][n, 0] == 0
        assert batch["decoder_input_ids"][n, 1 : len(target)].equal(target[:-1])
    assert len(batch["requests"]) == len(captions)


def test_images_of_different_size_are_refused():
    with pytest.raises(ValueError, match="patch_image_size"):
        collate([make_item([[5]], [(0, [])]), make_item([[5]], [(0, [])], size=4)])
