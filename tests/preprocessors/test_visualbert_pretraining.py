"""Items of VisualBERT's pre-training: kinds of texts, their labels, and a batch of all of them."""

import random

import numpy as np
import pytest

from data.features import Regions
from models.visualbert import VisualBERTConfig, VisualBERTModel
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.pretraining import PretrainingReader

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", "red", "is", "it", "r", "##e", "e", "d"]


class NoMask(random.Random):
    """Draws that mask nothing."""

    def random(self) -> float:
        return 0.99


def picture(name: str) -> Regions:
    return Regions(name, np.ones((3, 2), np.float32))


def reader(**settings) -> PretrainingReader:
    return PretrainingReader(load_wordpiece(VOCABULARY), 10, width=2, **settings)


def test_kinds_of_texts_and_their_labels():
    one, draws = reader(max_regions=2), NoMask(0)
    batch = one.collate(
        [
            one.captions("it", "is red", same=True, picture=picture("a"), draws=draws),
            one.question("Is it?", "red", picture=picture("a"), draws=draws),
            one.sentence("it is red", true=False, pair=[picture("a"), picture("b")], draws=draws),
            one.sentence("it", true=None, pair=[picture("a"), picture("b")], draws=draws),
        ]
    )
    assert batch["input_ids"].tolist() == [
        [2, 8, 3, 7, 6, 3],
        [2, 7, 8, 5, 6, 3],
        [2, 8, 7, 6, 3, 0],
        [2, 8, 3, 0, 0, 0],
    ]
    assert batch["labels"].tolist() == [1, -1, 0, -1]
    assert batch["box_types"].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert batch["box_mask"].sum(1).tolist() == [2, 2, 4, 4]
    assert (batch["word_labels"] == -1).all()


def test_an_answer_is_spelled_as_asked():
    made = reader(spelling="published").question("it", "red", picture=picture("a"), draws=NoMask(0))
    assert made["item"].texts[0].ids == [2, 8, 5, 9, 11, 12, 3]


def test_a_batch_of_all_kinds_has_both_losses():
    one, draws = reader(), random.Random(3)
    items = [one.captions("it is", "is red", same=False, picture=picture("a"), draws=draws) for _ in range(4)]
    items += [one.question("is it", "red", picture=picture("a"), draws=draws) for _ in range(4)]
    config = VisualBERTConfig(
        vocab_size=13,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        visual_embedding_dim=2,
    )
    found = VisualBERTModel(config)(**one.collate(items))
    assert found.losses.keys() == {"masked_words", "matches"}
    assert found.losses["masked_words"].item() == pytest.approx(np.log(13), rel=0.2)
    with pytest.raises(ValueError, match="2 wide, and the model reads 5"):
        PretrainingReader(load_wordpiece(VOCABULARY), 10, width=5).question(
            "it", "red", picture=picture("a"), draws=draws
        )
