"""LXMERT's losses of pre-training, each a sum and what it is divided by.

The loss of an update is the sum of all parts, each part's sums divided by its counts over the whole update: a
micro-batch without any label then adds nothing, instead of the original's NaN. A label of -1 is none.

Shapes: B examples, T words, V boxes, F numbers a box; n and m, the words and boxes that predictions were made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.lxmert import LxmertForPretraining

#: Whether object and attribute losses weigh every box with the detector's confidence, as the published training did by
#: mistake, or the masked boxes alone.
BoxLosses = Literal["masked", "published"]
NO_LABEL = -1


@dataclass(frozen=True)
class Part:
    """A loss: `total` with its gradient, and the number `count` that it is a mean over.

    `right` of the `asked` predictions name the label; None where a loss names nothing.
    """

    total: Tensor
    count: Tensor
    right: Tensor | None = None
    asked: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The loss; 0 where nothing was counted."""
        return self.total / self.count.clamp(min=1)


class Labels(NamedTuple):
    """What pre-training predicts; None leaves a loss out.

    `words` [B, T] and `answers` [B] are ids or -1; `matched` [B] is 1 where sentence and image belong together. Of the
    boxes: `masked` [B, V], 1 where a box was masked; `objects` and `attributes` [B, V], ids or -1, with the detector's
    confidences [B, V]; `features` [B, V, F] as they were before masking.
    """

    words: Tensor | None = None
    matched: Tensor | None = None
    answers: Tensor | None = None
    masked: Tensor | None = None
    objects: Tensor | None = None
    object_confidence: Tensor | None = None
    attributes: Tensor | None = None
    attribute_confidence: Tensor | None = None
    features: Tensor | None = None


def class_part(logits: Tensor, labels: Tensor) -> Part:
    """Cross-entropy of logits [n, classes] and labels [n], a mean over the labels that are there."""
    known = labels.ne(NO_LABEL)
    losses = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="sum")
    return Part(losses, known.sum(), logits.detach().argmax(-1).eq(labels).sum(), known.sum())


def box_class_part(logits: Tensor, labels: Tensor, weights: Tensor, boxes: int, normalizer: float) -> Part:
    """Cross-entropy of logits [m, classes] and labels [m], weighed, a mean over all `boxes` of the batch, normalised.

    Args:
        weights: [m].
        boxes: those that no prediction was made for, whose weight is 0, included.
        normalizer: 1 / 0.15 makes up for the boxes that are not masked.
    """
    losses = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="none")
    asked = labels.ne(NO_LABEL) & weights.gt(0)
    right = (logits.detach().argmax(-1).eq(labels) & asked).sum()
    total = (losses * weights).sum() * normalizer
    return Part(total, torch.as_tensor(boxes, device=logits.device), right, asked.sum())


def feature_part(predicted: Tensor, features: Tensor, weights: Tensor, boxes: int, normalizer: float) -> Part:
    """Smooth L1 (beta 1) of [m, F], a mean over the F numbers; weights, mean and normaliser as in `box_class_part`."""
    losses = F.smooth_l1_loss(predicted.float(), features.float(), reduction="none").mean(-1)
    return Part((losses * weights).sum() * normalizer, torch.as_tensor(boxes, device=predicted.device))


def pretraining_parts(
    model: LxmertForPretraining, inputs: Mapping[str, Tensor | None], labels: Labels, *, box_losses: BoxLosses
) -> dict[str, Part]:
    """The parts "words", "matched", "objects", "attributes", "features" and "answers" that have labels.

    Heads only run where a prediction is asked for. `inputs` are those of `LxmertForPretraining.forward`.

    Raises:
        ValueError: there is no label at all, or labels of boxes without `masked`, or without the confidences that
            `box_losses="published"` needs.
    """
    if all(label is None for label in labels):
        raise ValueError("pre-training without any label: give at least one of " + ", ".join(Labels._fields))
    weights = _box_weights(labels, box_losses)
    word_places = _none_of(inputs["input_ids"]) if labels.words is None else labels.words.ne(NO_LABEL)
    box_places = _none_of(inputs["visual_feats"])
    for weight in weights.values():
        box_places = box_places | weight.ne(0)
    found = model(**inputs, word_places=word_places, box_places=box_places)
    parts = {}
    if labels.words is not None:
        parts["words"] = class_part(found.words, labels.words[word_places])
    if labels.matched is not None:
        parts["matched"] = class_part(found.matched, labels.matched)
    for name, (head, label) in _box_labels(labels).items():
        make = feature_part if name == "features" else box_class_part
        parts[name] = make(
            found.boxes[head],
            label[box_places],
            weights[name][box_places],
            box_places.numel(),
            model.config.visual_loss_normalizer,
        )
    if labels.answers is not None:
        parts["answers"] = class_part(found.answers, labels.answers)
    return parts


def total(parts: Mapping[str, Part]) -> Tensor:
    """The plain sum of all losses."""
    return torch.stack([part.mean for part in parts.values()]).sum()


def _box_labels(labels: Labels) -> dict[str, tuple[str, Tensor]]:
    """Name of a visual loss -> its head and labels."""
    known = {
        "objects": ("obj", labels.objects),
        "attributes": ("attr", labels.attributes),
        "features": ("feat", labels.features),
    }
    return {name: (head, label) for name, (head, label) in known.items() if label is not None}


def _box_weights(labels: Labels, box_losses: BoxLosses) -> dict[str, Tensor]:
    """The weight of each box [B, V] in each visual loss that has labels."""
    confidences = {"objects": labels.object_confidence, "attributes": labels.attribute_confidence}
    weights = {}
    for name in _box_labels(labels):
        published = box_losses == "published" and name != "features"
        weight = confidences[name] if published else labels.masked
        if weight is None:
            what = "the detector's confidences" if published else "`masked`, which says what boxes were masked"
            raise ValueError(f"pre-training: labels of {name} need {what}")
        weights[name] = weight.float()
    return weights


def _none_of(grid: Tensor | None) -> Tensor:
    """[B, places] of False for a grid [B, places, ...]."""
    assert grid is not None
    return torch.zeros(grid.shape[:2], dtype=torch.bool, device=grid.device)
