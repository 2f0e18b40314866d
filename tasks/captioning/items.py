"""What a captioner learns from: groups of captions of one image, each prepared by a loader's worker."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from data.loading import CaptionGroupsDataset


class TrainingItems:
    """Items of `preprocessor` for the groups of an epoch; the error in place of one whose image is broken.

    Crops and flips depend on (seed, epoch, index) only, never on which worker prepares an item or on what came before:
    a resumed run sees the very same pictures. `image_dropout`: the share of images that are kept from the model.
    """

    def __init__(
        self,
        groups: CaptionGroupsDataset,
        preprocessor: Callable[[Mapping[str, Any]], dict],
        seed: int,
        *,
        image_dropout: float = 0.0,
    ) -> None:
        self.groups = groups
        self.preprocessor = preprocessor
        self.seed = seed
        self.image_dropout = image_dropout
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
        self.groups.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> dict[str, Any] | Exception:
        group = self.groups[index]
        seed = np.random.SeedSequence([self.seed, int(self._epoch), index]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> 1))
        request = {"image": group["image"], "image_id": group["image_id"], "samples": group["rows"]}
        other = self.groups.other_caption(group["image_id"], int(seed))
        try:
            item = self.preprocessor({**request, "generator": generator, "other_caption": other})
        except (ValueError, OSError) as error:
            return error
        # Drawn last and only if asked for: crops and flips are what they are without.
        if self.image_dropout and torch.rand((), generator=generator) < self.image_dropout:
            item["patch_mask"] = False
        return item
