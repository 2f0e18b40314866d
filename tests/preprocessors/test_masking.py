"""Masking for pre-training: shares, replaying, and what cannot go wrong."""

from collections import Counter

import numpy as np

from preprocessors.masking import (
    MaskedExample,
    SeededDraws,
    choose_answer,
    mask_boxes,
    mask_example,
    mask_words,
    swap_sentence,
)

MASK, VOCABULARY = 4, 50


def masked(seed: int, *, conditional: bool = False, words: int = 12, boxes: int = 36) -> MaskedExample:
    return mask_example(
        list(range(10, 10 + words)),
        boxes,
        SeededDraws(seed, 0),
        word_rate=0.5,
        box_rate=0.5,
        mask=MASK,
        vocabulary=VOCABULARY,
        examples=3,
        boxes_of=lambda example: example + 1,
        conditional=conditional,
    )


def test_the_same_keys_mask_the_same() -> None:
    one, again, other = masked(1), masked(1), masked(2)
    assert (one.words, one.boxes.replaced) == (again.words, again.boxes.replaced)
    assert one.words != other.words


def test_80_10_10_of_the_masked_words_and_boxes() -> None:
    draws = SeededDraws(0)
    count = 20_000
    words, labels = mask_words([49] * count, 0.3, draws, mask=MASK, vocabulary=5)
    chosen = [word for word, label in zip(words, labels, strict=True) if label != -1]
    assert abs(len(chosen) / count - 0.3) < 0.02
    kinds = Counter(min(word, 5) if word in (MASK, 49) else 6 for word in chosen)
    # one in five of the random words is the mask itself
    assert abs(kinds[MASK] / len(chosen) - 0.82) < 0.02
    assert abs(kinds[5] / len(chosen) - 0.10) < 0.02
    assert all(word == 49 for word, label in zip(words, labels, strict=True) if label == -1)
    boxes = mask_boxes(count, 0.3, draws, examples=7, boxes_of=lambda example: 2)
    share = boxes.masked.sum()
    assert abs(share / count - 0.3) < 0.02
    assert abs(len(boxes.zeroed) / share - 0.8) < 0.02
    assert abs(len(boxes.replaced) / share - 0.1) < 0.02
    assert {example for example, _ in boxes.replaced.values()} == set(range(7))


def test_a_box_is_only_taken_from_those_that_an_image_has() -> None:
    for seed in range(30):
        assert all(box <= example for example, box in masked(seed, boxes=100).boxes.replaced.values())


def test_a_coin_masks_words_or_boxes_and_hides_masked_boxes() -> None:
    seen = set()
    for seed in range(30):
        example = masked(seed, conditional=True)
        has_words = any(label != -1 for label in example.word_labels)
        has_boxes = bool(example.boxes.masked.any())
        assert not (has_words and has_boxes)
        assert example.visible is not None
        assert (example.visible == ~example.boxes.masked).all()
        seen.add((has_words, has_boxes))
    assert {(True, False), (False, True)} <= seen


def test_half_of_the_sentences_are_of_another_image() -> None:
    images = [number // 5 for number in range(50)]
    shown = [swap_sentence(7, images, SeededDraws(0, number)) for number in range(2000)]
    assert 900 < sum(other == 7 for other in shown) < 1100
    assert all(other == 7 or images[other] != images[7] for other in shown)
    assert {swap_sentence(1, ["same", "same"], SeededDraws(number)) for number in range(8)} == {1}


def test_answers_are_chosen_by_their_scores() -> None:
    chosen = Counter(choose_answer({3: 0.9, 8: 0.3}, True, SeededDraws(1, number)) for number in range(2000))
    assert abs(chosen[3] / 2000 - 0.75) < 0.04
    assert choose_answer({5: 0.3}, True, SeededDraws()) == 5
    assert choose_answer({5: 0.3}, False, SeededDraws()) == -1
    assert choose_answer({}, True, SeededDraws()) == choose_answer(None, True, SeededDraws()) == -1


def test_an_image_without_boxes_and_a_sentence_without_words() -> None:
    example = masked(0, words=0, boxes=0)
    assert example.words == []
    assert example.boxes.applied(np.zeros((0, 3)), lambda _: np.zeros((1, 3))).shape == (0, 3)
