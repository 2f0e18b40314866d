"""Masked sentences and regions to what LXMERT's pre-training reads and predicts.

Shapes: B examples, T word pieces of the longest, V regions of the richest picture, F numbers a region.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizer

from data.features.regions import Regions
from preprocessors.masking import NO_LABEL, Draws, mask_example
from preprocessors.questions import RegionReader

#: Columns of a feature store -> labels of boxes.
BOX_LABELS = {
    "objects": "objects_id",
    "object_confidence": "objects_conf",
    "attributes": "attrs_id",
    "attribute_confidence": "attrs_conf",
}


@dataclass(frozen=True)
class Pictures:
    """Where a masked box may get another one's features from: one of `count` examples, by number."""

    count: int
    features: Callable[[int], np.ndarray]


class MaskedReader:
    """A sentence and a picture to a masked item, and items to a batch.

    Args:
        reader: of one picture.
        word_rate, box_rate: shares that are masked.
        classes: names of `BOX_LABELS` -> classes that the model knows; an id from there on is an error.
    """

    def __init__(
        self,
        reader: RegionReader,
        *,
        word_rate: float,
        box_rate: float,
        classes: Mapping[str, int],
    ) -> None:
        self.reader = reader
        self.tokenizer: BertTokenizer = reader.tokenizer
        self.vocabulary = len(reader.tokenizer)
        self.rates = {"word_rate": word_rate, "box_rate": box_rate}
        self.classes = dict(classes)

    def __call__(
        self, text: str, regions: Regions, others: Pictures, draws: Draws, *, conditional: bool
    ) -> dict[str, Any]:
        """The item without `matched` and `answer`. ValueError for features and labels that the model cannot read."""
        item = self.reader(text, [regions])
        cls, *words, sep = item["ids"]
        assert self.tokenizer.mask_token_id is not None
        found = mask_example(
            words,
            len(regions),
            draws,
            **self.rates,
            mask=self.tokenizer.mask_token_id,
            vocabulary=self.vocabulary,
            examples=others.count,
            boxes_of=lambda example: len(others.features(example)),
            conditional=conditional,
        )
        features = np.asarray(regions.features, dtype=np.float32)
        return item | {
            "ids": [cls, *found.words, sep],
            "word_labels": [NO_LABEL, *found.word_labels, NO_LABEL],
            "features": [found.boxes.applied(features, others.features)],
            "whole": features,
            "masked": found.boxes.masked,
            "visible": np.ones(len(regions), dtype=bool) if found.visible is None else found.visible,
            **self._labels(regions),
        }

    def _labels(self, regions: Regions) -> dict[str, np.ndarray]:
        labels = {}
        for name, column in BOX_LABELS.items():
            if name not in self.classes and column.endswith("_id"):
                continue
            if column in regions.labels:
                labels[name] = regions.labels[column]
                if name in self.classes and len(labels[name]) and labels[name].max() >= self.classes[name]:
                    raise ValueError(
                        f"picture {regions.image_id}: {column} has {labels[name].max()}, and the model knows "
                        f"{self.classes[name]} {name}: set its number (num_object_labels, num_attr_labels)"
                    )
        return labels

    def collate(self, items: Sequence[Mapping[str, Any]], *, pass_mask: bool) -> dict[str, Any]:
        """The network's arguments, and labels as `trainers.pretraining_losses.Labels` has them.

        Args:
            pass_mask: whether boxes that are to be invisible are so; padding always is.
        """
        batch = self.reader.collate(items)
        boxes = batch["visual_feats"].shape[1]
        there = [np.ones(len(item["masked"]), dtype=bool) for item in items]
        visible = _padded([item["visible"] for item in items] if pass_mask else there, boxes, False)
        batch["visual_attention_mask"] = None if bool(visible.all()) else visible
        batch["words"] = _padded(
            [np.asarray(item["word_labels"]) for item in items], batch["input_ids"].shape[1], NO_LABEL
        )
        batch["matched"] = torch.tensor([int(item["matched"]) for item in items])
        batch["answers"] = torch.tensor([item["answer"] for item in items])
        batch["masked"] = _padded([item["masked"] for item in items], boxes, False)
        batch["whole"] = _padded([item["whole"] for item in items], boxes, 0.0)
        for name in BOX_LABELS:
            if all(name in item for item in items):
                nothing = 0.0 if name.endswith("confidence") else NO_LABEL
                batch[name] = _padded([item[name] for item in items], boxes, nothing)
        return batch


def _padded(arrays: Sequence[np.ndarray], length: int, filler: float) -> Tensor:
    """[B, length, ...] of B arrays [n, ...]; integers are int64."""
    first = arrays[0]
    kind = np.int64 if np.issubdtype(first.dtype, np.integer) else first.dtype
    padded = np.full((len(arrays), length, *first.shape[1:]), filler, dtype=kind)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return torch.from_numpy(padded)
