"""Items to the tensors of `VisualBERTModel.forward`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preprocessors.visualbert.texts import IGNORED, Text

#: No word.
_NONE = -1


@dataclass(frozen=True, slots=True)
class Item:
    """What one row of a batch is made of.

    Args:
        texts: one, or the choices.
        features: [N, feature width] float.
        box_types: [N]; the picture of each region, where there are two.
        alignment: for each text, for each region (or the first ones), the positions of the words that name it.
        label: a class, or soft targets [A].
    """

    texts: Sequence[Text]
    features: NDArray[np.floating]
    box_types: NDArray[np.integer] | None = None
    alignment: Sequence[Sequence[Sequence[int]]] | None = None
    label: int | NDArray[np.float32] | None = None


def collate(items: Sequence[Item], *, feature_width: int | None = None, choices: bool = False) -> dict[str, Tensor]:
    """One batch, padded to its longest text and most regions: ids, masks, segments and features with 0, labels with -1.

    Features keep their type. Optional tensors are there where all items have what they are made of.

    Args:
        feature_width: what the model takes.
        choices: keep the axis of the choices, [B, C, T], as head "vcr" takes it.

    Raises:
        ValueError: no items, features of another width, an alignment beyond the text, or items that differ in kind.
    """
    if not items:
        raise ValueError("a batch needs at least one item")
    counts = {len(item.texts) for item in items}
    if len(counts) > 1 or (not choices and counts != {1}):
        raise ValueError(f"the items of a batch have {sorted(counts)} texts: as many each, and one without choices")
    batch = _texts([text for item in items for text in item.texts])
    batch |= _regions(items, feature_width)
    if all(item.alignment is not None for item in items):
        batch["alignment"] = _alignment(items, batch["features"].shape[1])
    if choices:
        several = ("input_ids", "text_mask", "segment_ids", "word_labels", "alignment")
        batch |= {name: batch[name].unflatten(0, (len(items), -1)) for name in several if name in batch}
    labels = [item.label for item in items if item.label is not None]
    if len(labels) == len(items):
        batch["labels"] = torch.from_numpy(np.stack([np.asarray(label) for label in labels]))
    return batch


def _texts(texts: Sequence[Text]) -> dict[str, Tensor]:
    shape = (len(texts), max(len(text.ids) for text in texts))
    ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
    labels = np.full(shape, IGNORED, np.int64)
    with_labels = all(text.word_labels is not None for text in texts)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids[row, :length], segments[row, :length], mask[row, :length] = text.ids, text.segments, 1
        if text.word_labels is not None:
            labels[row, :length] = text.word_labels
    batch = {"input_ids": ids, "text_mask": mask, "segment_ids": segments}
    if with_labels:
        batch["word_labels"] = labels
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def _regions(items: Sequence[Item], width: int | None) -> dict[str, Tensor]:
    width = items[0].features.shape[-1] if width is None else width
    for number, item in enumerate(items):
        if item.features.ndim != 2 or item.features.shape[1] != width:
            raise ValueError(
                f"item {number} has features {list(item.features.shape)}, but the model takes {width} numbers a "
                "region: use the features that the checkpoint was trained with"
            )
    lengths = [len(item.features) for item in items]
    shape = (len(items), max(lengths))
    # half precision stays: the model widens it where it computes. Written once: only the padding is set to 0
    features = np.empty((*shape, width), np.result_type(*(item.features.dtype for item in items)))
    mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (item, length) in enumerate(zip(items, lengths, strict=True)):
        features[row, :length], features[row, length:] = item.features, 0
        mask[row, :length] = 1
        if item.box_types is not None:
            types[row, :length] = item.box_types
    batch = {"features": torch.from_numpy(features), "box_mask": torch.from_numpy(mask)}
    if all(item.box_types is not None for item in items):
        batch["box_types"] = torch.from_numpy(types)
    return batch


def _alignment(items: Sequence[Item], regions: int) -> Tensor:
    """[B * C, N, K], padded with -1."""
    rows = [(item.texts[number], of_text) for item in items for number, of_text in enumerate(item.alignment or [])]
    if len(rows) != sum(len(item.texts) for item in items):
        raise ValueError("an item has not as many alignments as texts")
    most = max((len(words) for _, of_text in rows for words in of_text), default=0)
    array = np.full((len(rows), regions, max(most, 1)), _NONE, np.int64)
    for row, (text, of_text) in enumerate(rows):
        if len(of_text) > regions:
            raise ValueError(f"text {row} aligns {len(of_text)} regions, but the batch has {regions}")
        for region, words in enumerate(of_text):
            if words and not 0 <= min(words) <= max(words) < len(text.ids):
                raise ValueError(
                    f"region {region} of text {row} is aligned with word pieces {list(words)}, beyond the text of "
                    f"{len(text.ids)}: cut the alignment with the text"
                )
            array[row, region, : len(words)] = words
    return torch.from_numpy(array)
