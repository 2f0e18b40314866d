"""Questions and the regions of their pictures to what LXMERT reads.

Shapes: B questions, T word pieces of the longest, V regions of the richest picture, F numbers a region, I pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizer

from data.features.regions import Regions

#: What a model is shown of a question and its picture.
Sees = Literal["both", "question", "image"]


def shown(text: str, images: Sequence[Regions], sees: Sees) -> tuple[str, list[Regions]]:
    """The question without its words, or the pictures with 0 for every number and box, as `sees` says."""
    if sees == "image":
        return "", list(images)
    if sees == "question":
        return text, [_hidden(one) for one in images]
    return text, list(images)


def _hidden(regions: Regions) -> Regions:
    boxes = None if regions.boxes is None else np.zeros_like(regions.boxes)
    return replace(regions, features=np.zeros_like(regions.features), boxes=boxes)


class RegionReader:
    """Word pieces of a question, `[CLS] ... [SEP]`, and features and boxes of its one or two pictures.

    Args:
        max_words: word pieces that are kept, the two special ones included.
        images: pictures of a question: 1, or 2 of a pair.
        width: numbers of a region.
    """

    def __init__(self, tokenizer: BertTokenizer, max_words: int, *, images: int, width: int) -> None:
        self.tokenizer = tokenizer
        self.max_words = max_words
        self.images = images
        self.width = width

    def __call__(self, text: str, images: Sequence[Regions]) -> dict[str, Any]:
        """An item for `collate`. Raises ValueError for another number of pictures, and features of another width."""
        if len(images) != self.images:
            raise ValueError(
                f"{len(images)} pictures for a model of {self.images} a question: a pair needs its left and its right"
            )
        for regions in images:
            if regions.features.shape[1] != self.width:
                raise ValueError(
                    f"picture {regions.image_id}: its features are {regions.features.shape[1]} wide, and the model "
                    f"reads {self.width}: use the features that it was trained with"
                )
        pieces = self.tokenizer.encode(text, add_special_tokens=False)[: self.max_words - 2]
        return {
            "ids": [self.tokenizer.cls_token_id, *pieces, self.tokenizer.sep_token_id],
            "features": [regions.features for regions in images],
            "boxes": [regions.normalised_boxes() for regions in images],
        }

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`input_ids` and `attention_mask` [B, T]; `visual_feats` [B, V, F] and `visual_pos` [B, V, 4], of pairs
        [B, 2, V, ...]; `visual_attention_mask` [B, V] where pictures have different numbers of regions, else None.
        """
        length = max(len(item["ids"]) for item in items)
        words = torch.zeros(2, len(items), length, dtype=torch.long)
        for row, item in enumerate(items):
            words[0, row, : len(item["ids"])] = torch.tensor(item["ids"])
            words[1, row, : len(item["ids"])] = 1
        pictures = [features for item in items for features in item["features"]]
        boxes = [one for item in items for one in item["boxes"]]
        counts = [len(features) for features in pictures]
        feats, places = _padded(pictures), _padded(boxes)
        mask = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None] if len(set(counts)) > 1 else None
        if self.images > 1:
            feats, places = (one.unflatten(0, (len(items), self.images)) for one in (feats, places))
            mask = None if mask is None else mask.unflatten(0, (len(items), self.images))
        return {
            "input_ids": words[0],
            "attention_mask": words[1],
            "visual_feats": feats,
            "visual_pos": places,
            "visual_attention_mask": mask,
        }


def _padded(arrays: Sequence[np.ndarray]) -> Tensor:
    """float32 [N, longest, D] of N arrays [n, D], 0 where there is nothing."""
    longest = max(len(array) for array in arrays)
    padded = np.zeros((len(arrays), longest, arrays[0].shape[1]), dtype=np.float32)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return torch.from_numpy(padded)


def dense_scores(targets: Sequence[tuple[np.ndarray, np.ndarray]], answers: int) -> Tensor:
    """float32 [B, answers] of the rows and scores of B questions (`AnswerVocabulary.targets`)."""
    scores = torch.zeros(len(targets), answers)
    for row, (places, values) in enumerate(targets):
        scores[row, torch.from_numpy(places)] = torch.from_numpy(values)
    return scores
