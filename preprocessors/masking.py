"""What pre-training hides from LXMERT, and what it asks: masked words and boxes, swapped sentences, answers.

Every random number comes from `Draws`, in a fixed order, so that an example can be made again: the swap; then the coin
of conditional masking, words, boxes and the answer.
"""

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import numpy as np

NO_LABEL = -1
# Shares of what is masked: hidden altogether, and, up to the second, replaced by something random; the rest is kept.
_HIDDEN, _REPLACED = 0.8, 0.9
# After so many draws in vain it is worth looking whether there is anything else to draw.
_PATIENCE = 100


class Draws(Protocol):
    """Random numbers."""

    def random(self) -> float:
        """From 0 to under 1."""

    def coin(self) -> int:
        """0 or 1."""

    def word(self, words: int) -> int:
        """One of so many ids of words."""

    def below(self, count: int) -> int:
        """A number from 0 to under `count`."""

    def pick(self, weights: Sequence[float]) -> int:
        """A place of `weights`, each as probable as its share of their sum."""


class SeededDraws:
    """Draws of Python's generator; the same for the same `keys`, such as seed, epoch and number of the example."""

    def __init__(self, *keys: int):
        self._generator = random.Random(":".join(map(str, keys)))

    def random(self) -> float:
        return self._generator.random()

    def coin(self) -> int:
        return self._generator.getrandbits(1)

    def word(self, words: int) -> int:
        return self.below(words)

    def below(self, count: int) -> int:
        return self._generator.randrange(count)

    def pick(self, weights: Sequence[float]) -> int:
        return self._generator.choices(range(len(weights)), cum_weights=list(accumulate(weights)))[0]


@dataclass(frozen=True)
class MaskedBoxes:
    """Which of V boxes are masked, and how.

    Attributes:
        masked: [V] bool, those that are to be predicted, the ones that are kept as they are among them.
        zeroed: places whose features become 0.
        replaced: place -> (example, its box) whose features it gets. Corners of boxes never change.
    """

    masked: np.ndarray
    zeroed: list[int] = field(default_factory=list)
    replaced: dict[int, tuple[int, int]] = field(default_factory=dict)

    def applied(self, features: np.ndarray, of: Callable[[int], np.ndarray]) -> np.ndarray:
        """A copy of the features [V, F] with the masked ones hidden; `of` gives the features of another example."""
        hidden = features.copy()
        hidden[self.zeroed] = 0
        for place, (example, box) in self.replaced.items():
            hidden[place] = of(example)[box]
        return hidden


@dataclass(frozen=True)
class MaskedExample:
    """A sentence of word pieces, without special tokens, and an image after masking.

    Attributes:
        words: ids that the model reads; `word_labels` the ids that it predicts, or -1.
        boxes: what becomes of the boxes.
        visible: [V] bool, the boxes that may be looked at; None where all may.
    """

    words: list[int]
    word_labels: list[int]
    boxes: MaskedBoxes
    visible: np.ndarray | None


def mask_words(
    words: Sequence[int], rate: float, draws: Draws, *, mask: int, vocabulary: int, active: bool = True
) -> tuple[list[int], list[int]]:
    """Mask word pieces: of the share `rate`, 80% become `mask`, 10% any entry of the vocabulary, 10% stay.

    Args:
        active: False draws as many numbers and masks nothing.

    Returns:
        The ids, and for each the id that was there if it is masked, else -1.
    """
    read, labels = list(words), [NO_LABEL] * len(words)
    for place, word in enumerate(words):
        drawn = draws.random()
        if drawn >= rate or not active:
            continue
        labels[place] = word
        if drawn / rate < _HIDDEN:
            read[place] = mask
        elif drawn / rate < _REPLACED:
            read[place] = draws.word(vocabulary)
    return read, labels


def mask_boxes(
    boxes: int, rate: float, draws: Draws, *, examples: int, boxes_of: Callable[[int], int], active: bool = True
) -> MaskedBoxes:
    """Mask boxes: of the share `rate`, 80% become 0, 10% a box of any example, 10% stay.

    Args:
        boxes: how many the image has.
        examples: how many there are to take a box from; `boxes_of` tells how many boxes the image of one has.
        active: as in `mask_words`.
    """
    plan = MaskedBoxes(np.zeros(boxes, dtype=bool))
    for place in range(boxes):
        drawn = draws.random()
        if drawn >= rate or not active:
            continue
        plan.masked[place] = True
        if drawn / rate < _HIDDEN:
            plan.zeroed.append(place)
        elif drawn / rate < _REPLACED:
            example = draws.below(examples)
            plan.replaced[place] = (example, draws.below(boxes_of(example)))
    return plan


def mask_example(
    words: Sequence[int],
    boxes: int,
    draws: Draws,
    *,
    word_rate: float,
    box_rate: float,
    mask: int,
    vocabulary: int,
    examples: int,
    boxes_of: Callable[[int], int],
    conditional: bool = False,
) -> MaskedExample:
    """Mask words and boxes, or with `conditional` (CATT's second pre-training) words or boxes.

    A coin then says which, and masked boxes are invisible: they are still computed, and predicted, but nothing may look
    at them. Arguments as in `mask_words` and `mask_boxes`.
    """
    coin = draws.coin() if conditional else None
    read, labels = mask_words(words, word_rate, draws, mask=mask, vocabulary=vocabulary, active=coin != 1)
    plan = mask_boxes(boxes, box_rate, draws, examples=examples, boxes_of=boxes_of, active=coin != 0)
    return MaskedExample(read, labels, plan, ~plan.masked if conditional else None)


def swap_sentence(example: int, images: Sequence[Hashable], draws: Draws) -> int:
    """The example whose sentence is shown with the image of `example`: itself, or in half of the cases another's.

    Args:
        images: the image of every example. Where all have the same, no sentence is ever swapped.
    """
    if draws.random() >= 0.5:
        return example
    tries = 0
    while True:
        other = draws.below(len(images))
        if images[other] != images[example]:
            return other
        tries += 1
        if tries == _PATIENCE and len(set(images)) == 1:
            return example


def choose_answer(label: Mapping[int, float] | None, is_matched: bool, draws: Draws) -> int:
    """One of a label's answers, as probable as its score; -1 where there is none or the sentence is another image's."""
    if not label or not is_matched:
        return NO_LABEL
    answers = list(label)
    return answers[0] if len(answers) == 1 else answers[draws.pick(list(label.values()))]
