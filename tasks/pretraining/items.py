"""What pre-training learns from: examples that are masked anew in every epoch, in an order of the epoch's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tasks.pretraining.models import EVALUATION, Examples, Phase


class PretrainingItems:
    """Items of all examples. The error in place of one that cannot be made.

    Args:
        phase_at: the phase of an epoch, from 0.
        seed: of the orders; None keeps the order of the records and the masks of one epoch, for evaluation.
    """

    def __init__(self, examples: Examples, phase_at: Callable[[int], Phase], seed: int | None = None) -> None:
        self.examples = examples
        self.phase_at = phase_at
        self.seed = seed
        # Shared, because workers are copies of this object made before the next epoch is set.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._drawn, self._order = -1, np.arange(len(examples))

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any] | Exception:
        epoch = int(self._epoch)
        try:
            if self.seed is None:
                return self.examples(index, EVALUATION, self.phase_at(epoch))
            return self.examples(self._row(index, epoch), epoch, self.phase_at(epoch))
        except ValueError as error:
            return error

    def _row(self, index: int, epoch: int) -> int:
        if epoch != self._drawn:
            self._order = np.random.default_rng([self.seed or 0, epoch]).permutation(len(self.examples))
            self._drawn = epoch
        return int(self._order[index])
