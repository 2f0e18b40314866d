"""What pre-training masks and asks against the original programs, from the random numbers that they drew."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from models.lxmert.answers import clean_label
from models.wordpiece import load_wordpiece
from preprocessors.masking import NO_LABEL, MaskedBoxes, choose_answer, mask_example, swap_sentence
from tests.parity.conftest import Golden


class Replayed:
    """Draws that were written down, in their order."""

    def __init__(self, draws: list[list[Any]], vocabulary: Sequence[str]):
        self.left = list(draws)
        self.vocabulary = list(vocabulary)

    def _next(self, kind: str) -> Any:
        found, value = self.left.pop(0)
        assert found == kind
        return value

    def random(self) -> float:
        return self._next("random")

    def coin(self) -> int:
        return self._next("np.randint")

    def word(self, words: int) -> int:
        assert words == len(self.vocabulary)
        return self.vocabulary.index(self._next("choice"))

    def below(self, count: int) -> int:
        value = self._next("randint")
        assert 0 <= value < count
        return value

    def pick(self, weights: Sequence[float]) -> int:
        value = self._next("np.multinomial")
        assert 0 <= value < len(weights)
        return value


class Case:
    """The data of a masking case: CATT's has LXMERT's sentences and images."""

    def __init__(self, golden: Golden):
        self.golden = golden
        self.vocabulary: list[str] = golden.json["vocab"]
        self.tokenizer = load_wordpiece(self.vocabulary)

    @cached_property
    def images(self) -> list[int]:
        """The image of each sentence. CATT's case does not hold the data: four sentences an image, as in LXMERT's."""
        dataset = self.golden.json.get("dataset")
        if dataset is None:
            drawn = [value for e in self.golden.json["examples"] for kind, value in e["draws"] if kind == "randint"]
            return [number // 4 for number in range(1 + max(drawn, default=0))]
        names = list(dict.fromkeys(item["img_id"] for item in dataset))
        return [names.index(item["img_id"]) for item in dataset]

    def became(self, plan: MaskedBoxes) -> list[Any]:
        """What became of each box, in the words of the case."""
        known: list[Any] = ["kept" if masked else "-" for masked in plan.masked]
        for place in plan.zeroed:
            known[place] = "zero"
        for place, (example, box) in plan.replaced.items():
            known[place] = [self.images[example], box]
        return known


@pytest.mark.goldens("*mask*", system="lxmert", when=lambda content: "examples" in content)
def test_examples_are_masked_as_in_the_original(golden: Golden) -> None:
    case = Case(golden)
    length = golden.json["max_seq_length"]
    for example in golden.json["examples"]:
        draws = Replayed(example["draws"], case.vocabulary)
        pieces = case.tokenizer.tokenize(example["sentence"])[: length - 2]
        assert pieces == example["tokens"]
        word_rate, box_rate = example["rates"]
        boxes: int = len(example["boxes_became"])
        found = mask_example(
            [case.vocabulary.index(piece) for piece in pieces],
            boxes,
            draws,
            word_rate=word_rate,
            box_rate=box_rate,
            mask=case.tokenizer.mask_token_id,
            vocabulary=len(case.vocabulary),
            examples=len(case.images),
            boxes_of=([boxes] * len(case.images)).__getitem__,
            conditional="coin" in example,
        )
        label = {int(answer): score for answer, score in (example["label"] or {}).items()}
        assert choose_answer(label, bool(example["is_matched"]), draws) == example["answer"]
        assert not draws.left
        cls, sep = case.tokenizer.cls_token_id, case.tokenizer.sep_token_id
        padding = length - len(pieces) - 2
        assert [cls, *found.words, sep, *[0] * padding] == example["input_ids"]
        assert [NO_LABEL, *found.word_labels, NO_LABEL, *[NO_LABEL] * padding] == example["lm_labels"]
        assert [1] * (len(pieces) + 2) + [0] * padding == example["input_mask"]
        assert found.boxes.masked.astype(int).tolist() == example["feat_mask"]
        assert case.became(found.boxes) == example["boxes_became"]
        if "visual_mask" in example:
            assert found.visible is not None
            assert found.visible.astype(int).tolist() == example["visual_mask"]
        else:
            assert found.visible is None


@pytest.mark.goldens("*mask*", system="lxmert", when=lambda content: "dataset_items" in content)
def test_sentences_are_swapped_as_in_the_original(golden: Golden) -> None:
    dataset = golden.json["dataset"]
    for item in golden.json["dataset_items"]:
        draws = Replayed(item["draws"], [])
        shown = swap_sentence(item["index"], Case(golden).images, draws)
        assert not draws.left
        assert int(shown == item["index"]) == item["is_matched"]
        assert dataset[shown]["sent"] == item["sentence"]


@pytest.mark.goldens("*mask*", system="lxmert", when=lambda content: "pretraining_json" in content)
def test_labels_are_cleaned_as_in_the_original(golden: Golden) -> None:
    ids = {answer: number for number, answer in enumerate(golden.json["joint_answers"])}
    cleaned = [
        clean_label(label, ids)
        for record in golden.json["pretraining_json"]
        for source, labels in record["labelf"].items()
        for label in labels
    ]
    expected = [
        {ids[answer]: score for answer, score in item["label"].items()}
        for item in golden.json["dataset"]
        if "label" in item
    ]
    assert cleaned == expected
    by_index = {item["index"]: item["label"] for item in golden.json["dataset_items"]}
    for index, label in by_index.items():
        known = golden.json["dataset"][index].get("label")
        assert (label is None) == (known is None)
        if label is not None:
            assert {int(answer): score for answer, score in label.items()} == clean_label(known, ids)


def test_features_of_masked_boxes() -> None:
    features = np.arange(8.0).reshape(4, 2)
    plan = MaskedBoxes(np.array([True, True, True, False]), [0], {1: (3, 1)})
    hidden = plan.applied(features, lambda example: np.full((2, 2), float(example)))
    assert hidden.tolist() == [[0, 0], [3, 3], [4, 5], [6, 7]]
    assert features[0].tolist() == [0, 1]
