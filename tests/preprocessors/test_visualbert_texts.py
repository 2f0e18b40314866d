"""VisualBERT's texts: word pieces, layout, cutting, masking, questions, sentences and captions."""

import random

import numpy as np
import pytest

from preprocessors.visualbert.boxes import screened
from preprocessors.visualbert.captions import CaptionPairs, caption_text
from preprocessors.visualbert.draws import item_draws
from preprocessors.visualbert.questions import (
    answer_pieces,
    answer_scores,
    dense,
    draw_answer,
    question_and_answer,
    question_text,
    question_words,
)
from preprocessors.visualbert.sentences import both_images, image_names, sentence_text, truth
from preprocessors.visualbert.texts import cut_pair, cut_single, mask_piece, masked, pair, single
from tests.preprocessors.visualbert_pieces import ENTRIES, Fixed, vocabulary

V = vocabulary()
KEEP = 0.5  # above the probability: the piece stays


def shown(ids: list[int]) -> str:
    return " ".join(V.tokens(ids))


def test_a_text_that_spells_a_special_token_is_split():
    assert V.mask not in V.split("a [MASK] dog")
    assert V.split_all(["a dog", ""]) == [V.split("a dog"), []]
    assert V.split_all([]) == []
    assert (V.size, V.pad, V.mask) == (len(ENTRIES), 0, 4)


def test_layout_of_one_text_and_of_two():
    one, two = V.split("the red dog"), V.split("a cat")

    assert shown(single(V, one).ids) == "[CLS] the red dog [SEP]"
    both = pair(V, one, two)
    assert shown(both.ids) == "[CLS] the red dog [SEP] a cat [SEP]"
    assert both.segments == [0, 0, 0, 0, 0, 1, 1, 1]
    assert pair(V, one, []) == single(V, one)


@pytest.mark.parametrize(
    ("lengths", "limit", "kept"),
    [
        ((3, 4), 10, (3, 4)),
        ((3, 4), 9, (3, 3)),
        ((4, 4), 9, (3, 3)),
        ((4, 4), 8, (3, 2)),
        ((9, 2), 10, (5, 2)),
        ((2, 9), 10, (2, 5)),
        ((120, 120), 128, (63, 62)),
    ],
)
def test_the_longer_text_loses_its_end(lengths, limit, kept):
    a, b = (list(range(length)) for length in lengths)

    first, second = cut_pair(a, b, limit)

    assert (list(first), list(second)) == (a[: kept[0]], b[: kept[1]])


def test_cutting_has_two_rules():
    assert cut_pair([1] * 120, [2] * 120, 128, rule="published") == ([1] * 62, [])
    with pytest.raises(ValueError, match="cutting rule 'front' is unknown"):
        cut_pair([1], [2] * 9, 5, rule="front")  # type: ignore[arg-type]
    assert cut_single([1, 2, 3, 4], 5) == [1, 2, 3]


@pytest.mark.parametrize(
    ("numbers", "result"),
    [
        ([0.2], (9, -1)),
        ([0.15], (9, -1)),
        ([0.119], (4, 9)),
        ([0.1201, 33], (33, 9)),
        ([0.134, 2], (2, 9)),
        ([0.1351], (9, 9)),
    ],
)
def test_a_piece_is_masked_replaced_or_kept(numbers, result):
    draws = Fixed(*numbers)

    assert mask_piece(9, draws, probability=0.15, mask=4, size=40) == result
    assert draws.numbers == []


def test_special_tokens_are_not_masked_and_the_first_text_is_drawn_first():
    text = pair(V, V.split("a dog"), V.split("the cat"))

    result = masked(V, text, Fixed(KEEP, 0.0, KEEP, 0.0))

    assert shown(result.ids) == "[CLS] a [MASK] [SEP] the [MASK] [SEP]"
    assert result.word_labels == [-1, -1, *V.split("dog"), -1, -1, *V.split("cat"), -1]
    assert text.word_labels is None


def test_an_items_numbers_depend_on_seed_epoch_and_item():
    def numbers(*place: int, **settings: bool) -> list[float]:
        draws = item_draws(*place, **settings)
        return [draws.random() for _ in range(3)]

    assert numbers(1, 2, 3) == numbers(1, 2, 3)
    assert len({tuple(numbers(*place)) for place in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3), (12, 3, 0))}) == 5
    assert numbers(1, 2, 3, redraw=False) == numbers(1, 5, 3, redraw=False) == numbers(1, 0, 3)


# --- questions -------------------------------------------------------------------------------------------------------


def test_a_questions_words():
    assert question_words("What's  the Dog's name, then?") == ["what", "'", "s", "the", "dog", "'", "s", "name", "then"]
    assert question_words("?") == []


def test_a_question_ends_with_the_mask_however_long_it_is():
    assert shown(question_text(V, V.split("is the dog red")).ids) == "[CLS] is the dog red ? [MASK] [SEP]"
    assert shown(question_text(V, V.split("is the dog red"), limit=6).ids) == "[CLS] is the ? [MASK] [SEP]"
    assert shown(question_text(V, []).ids) == "[CLS] ? [MASK] [SEP]"


def test_an_answer_is_a_word_or_letters():
    question = V.split("is the dog red")
    for spelling, expected in (("words", "red"), ("published", "r e d")):
        answer = answer_pieces(V, "red", spelling=spelling)  # type: ignore[arg-type]
        text = question_and_answer(V, question, answer, Fixed(*[KEEP] * 8))
        assert shown(text.ids) == f"[CLS] is the dog red ? {expected} [SEP]"
        assert text.word_labels == [-1] * len(text.ids)
    with pytest.raises(ValueError, match="answer spelling 'letters' is unknown"):
        answer_pieces(V, "red", spelling="letters")  # type: ignore[arg-type]


def test_an_answer_that_many_gave_is_drawn_more_often():
    draws = random.Random(1)

    drawn = [draw_answer(["red", "red", "blue"], draws) for _ in range(3000)]

    assert drawn.count("red") == pytest.approx(2000, abs=100)
    with pytest.raises(ValueError, match="a question without answers"):
        draw_answer([], draws)


def test_scores_of_answers():
    numbers = {"<unk>": 0, "red": 1, "blue": 2}

    scores = answer_scores(["red", "red", "blue", "zebra", "zebra"], numbers)

    assert scores == pytest.approx({1: 0.6, 2: 0.3})
    assert dense(scores, 3).tolist() == pytest.approx([0, 0.6, 0.3])
    assert answer_scores(["zebra"], {"red": 0}) == {}
    assert dense({}, 2).tolist() == [0, 0]


# --- sentences and captions ------------------------------------------------------------------------------------------


def test_a_sentence_with_and_without_masked_words():
    sentence = V.split("the dog is red")

    assert shown(sentence_text(V, sentence, limit=5).ids) == "[CLS] the dog is [SEP]"
    assert shown(sentence_text(V, sentence, Fixed(0.0, KEEP, KEEP, KEEP)).ids) == "[CLS] [MASK] dog is red [SEP]"


def test_two_pictures_of_a_sentence():
    first, second = np.full((3, 2), 1, np.float32), np.full((2, 2), 2, np.float32)

    rows, types = both_images(first, second, regions=2)

    assert rows[:, 0].tolist() == [1, 1, 2, 2]
    assert types.tolist() == [0, 0, 1, 1]
    assert image_names("test1-3-10-1") == ("test1-3-10-img0.png", "test1-3-10-img1.png")


def test_labels_of_sentences():
    assert [truth(label) for label in ("True", "False", True, False, "true", None)] == [1, 0, 1, 0, 1, -1]
    with pytest.raises(ValueError, match="'yes' is neither True nor False"):
        truth("yes")


def test_a_second_caption_is_never_the_first():
    pairs = CaptionPairs(["a", "a", "b", "b", "b"])

    # beside caption 3, image b has captions 2 and 4
    assert pairs.draw(3, Fixed(0.5, 1)) == (4, True)
    assert pairs.draw(3, Fixed(0.51, 2, 4, 0)) == (0, False)


def test_an_image_with_one_caption_is_paired_or_dropped():
    images = ["a", "b", "b"]

    assert CaptionPairs(images).firsts == [0, 1, 2]
    assert CaptionPairs(images).draw(0, Fixed(0.1, 0, 2)) == (2, False)
    assert CaptionPairs(images, alone="drop").firsts == [1, 2]
    with pytest.raises(ValueError, match="alone is 'crash'"):
        CaptionPairs(images, alone="crash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="need two images; there are 1"):
        CaptionPairs(["a", "a"])


def test_two_captions_are_cut_before_they_are_masked():
    text = caption_text(V, V.split("the red dog is on the mat"), V.split("a cat"), Fixed(*[KEEP] * 5), limit=8)

    assert shown(text.ids) == "[CLS] the red dog [SEP] a cat [SEP]"


# --- regions ---------------------------------------------------------------------------------------------------------


def test_confident_regions_are_kept_before_others():
    confidences = [0.9, 0.1, 0.8, 0.3, 0.7]

    assert screened(confidences, confidence_cap=0.5, image_feature_cap=2).tolist() == [0, 2]
    assert screened(confidences, confidence_cap=0.5, image_feature_cap=2, rule="published").tolist() == [0, 1]
    assert screened(confidences, image_feature_cap=2, keep=[4]).tolist() == [0, 1, 4]
    assert screened(confidences, confidence_cap=0.95, min_cap=9).tolist() == [0, 1, 2, 3, 4]
    assert screened(np.ones(400)).shape == (300,)


@pytest.mark.parametrize(
    "text",
    ["", " ", "  a   dog ", "a\tdog\nis", "dog's, red-is!", "A DOG", "\u0301a e\u0301 \u4e2da", "[MASK] a"],
)
def test_words_apart_are_split_as_a_text_is(text: str):
    whole = vocabulary().tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert vocabulary().split(text) == whole
