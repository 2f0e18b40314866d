"""Masked sentences and regions as a batch of pre-training."""

from collections.abc import Sequence

import numpy as np
import pytest

from data.features.regions import Regions
from models.wordpiece import load_wordpiece
from preprocessors.pretraining import MaskedReader, Pictures
from preprocessors.questions import RegionReader

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ball"]


class Drawn:
    """Draws that are given."""

    def __init__(self, *numbers: float, coin: int = 0, below: Sequence[int] = ()) -> None:
        self.numbers, self._coin, self._below = list(numbers), coin, list(below)

    def random(self) -> float:
        return self.numbers.pop(0)

    def coin(self) -> int:
        return self._coin

    def word(self, words: int) -> int:
        return 5

    def below(self, count: int) -> int:
        return self._below.pop(0)

    def pick(self, weights: Sequence[float]) -> int:
        return 0


def picture(boxes: int, objects: Sequence[int]) -> Regions:
    features = np.arange(1.0, 1 + 2 * boxes, dtype=np.float32).reshape(boxes, 2)
    labels = {
        "objects_id": np.array(objects, dtype=np.int32),
        "objects_conf": np.full(boxes, 0.5, dtype=np.float32),
    }
    return Regions("p", features, np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (boxes, 1)), (1, 1), labels)


def reader() -> MaskedReader:
    plain = RegionReader(load_wordpiece(WORDS), 5, images=1, width=2)
    return MaskedReader(plain, word_rate=0.1, box_rate=0.1, classes={"objects": 3, "attributes": 3})


OTHERS = Pictures(4, lambda row: np.full((3, 2), float(row), dtype=np.float32))


def test_a_batch_by_hand() -> None:
    make = reader()
    # "a" stays, "red" is masked; of two boxes the second gets those of another example
    first = make("a red", picture(2, [0, 2]), OTHERS, Drawn(0.5, 0.01, 0.5, 0.085, below=[3, 1]), conditional=False)
    second = make("ball", picture(1, [1]), OTHERS, Drawn(0.5, 0.01), conditional=False)
    items = [first | {"matched": True, "answer": 4}, second | {"matched": False, "answer": -1}]
    batch = make.collate(items, pass_mask=True)
    assert batch["input_ids"].tolist() == [[2, 5, 4, 3], [2, 7, 3, 0]]
    assert batch["words"].tolist() == [[-1, -1, 6, -1], [-1, -1, -1, -1]]
    assert batch["visual_feats"].tolist() == [[[1, 2], [3, 3]], [[0, 0], [0, 0]]]
    assert batch["whole"].tolist() == [[[1, 2], [3, 4]], [[1, 2], [0, 0]]]
    assert batch["masked"].tolist() == [[False, True], [True, False]]
    assert batch["visual_attention_mask"].tolist() == [[True, True], [True, False]]
    assert batch["objects"].tolist() == [[0, 2], [1, -1]]
    assert batch["object_confidence"].tolist() == [[0.5, 0.5], [0.5, 0]]
    assert (batch["matched"].tolist(), batch["answers"].tolist()) == ([1, 0], [4, -1])
    assert "attributes" not in batch


@pytest.mark.parametrize(("passed", "mask"), [(True, [[True, False]]), (False, None)])
def test_masked_boxes_are_invisible_where_the_coin_says_so(passed: bool, mask: list[list[bool]] | None) -> None:
    make = reader()
    item = make("a", picture(2, [0, 0]), OTHERS, Drawn(0.01, 0.5, 0.01, coin=1), conditional=True)
    assert item["word_labels"] == [-1, -1, -1]
    found = make.collate([item | {"matched": True, "answer": -1}], pass_mask=passed)["visual_attention_mask"]
    assert (found if found is None else found.tolist()) == mask


def test_an_object_that_the_model_does_not_know() -> None:
    with pytest.raises(ValueError, match="objects_id has 3, and the model knows 3 objects"):
        reader()("a", picture(1, [3]), OTHERS, Drawn(0.5, 0.5), conditional=False)
