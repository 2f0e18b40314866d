"""What the training loop reads: groups of captions of one image, prepared by workers, in a resumable order."""

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from data.loading import CaptionGroupsDataset
from preprocessors.collate import collate

Batch = dict[str, Any]


class TrainingItems(Dataset[dict[str, Any]]):
    """Items of `preprocessor` for the groups of an epoch.

    Crops and flips depend on (seed, epoch, index) only, never on which worker prepares an item or on what came before:
    a resumed run sees the very same pictures.
    """

    def __init__(self, groups: CaptionGroupsDataset, preprocessor: Callable[[Mapping[str, Any]], dict], seed: int):
        self.groups = groups
        self.preprocessor = preprocessor
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
        self.groups.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> dict[str, Any]:
        group = self.groups[index]
        seed = np.random.SeedSequence([self.seed, int(self._epoch), index]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> 1))
        request = {"image": group["image"], "image_id": group["image_id"], "samples": group["rows"]}
        other = self.groups.other_caption(group["image_id"], int(seed))
        return self.preprocessor({**request, "generator": generator, "other_caption": other})


class UpdateSampler(Sampler[list[int]]):
    """For each update the groups that this rank works on.

    All ranks cut the same shuffled epoch into updates of `ranks · accumulation · batch_size` groups, of which every
    rank takes an equal, contiguous part. The rest of an epoch that fills no update is left out (another rest every
    epoch). `start` skips the updates that a resumed run has done.
    """

    def __init__(self, groups: int, *, batch_size: int, accumulation: int, rank: int = 0, ranks: int = 1):
        self.share = batch_size * accumulation
        self.stride = self.share * ranks
        self.updates = groups // self.stride
        self.offset = rank * self.share
        self.start = 0
        if self.updates == 0:
            raise ValueError(
                f"one update takes {self.stride} groups of captions (train.batch_size {batch_size} x "
                f"train.gradient_accumulation {accumulation} x {ranks} processes), but the training split has only "
                f"{groups}: lower train.batch_size"
            )

    def __len__(self) -> int:
        return self.updates - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for update in range(self.start, self.updates):
            first = update * self.stride + self.offset
            yield list(range(first, first + self.share))


class MicroBatches:
    """Collates the items of an update into its micro-batches; a class because workers must be able to receive it."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size

    def __call__(self, items: list[dict[str, Any]]) -> list[Batch]:
        return [collate(items[i : i + self.batch_size]) for i in range(0, len(items), self.batch_size)]


def training_loader(
    items: TrainingItems, sampler: UpdateSampler, *, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """Yields for each update its list of micro-batches, `list[Batch]`."""
    return DataLoader(
        items,
        batch_sampler=sampler,
        collate_fn=MicroBatches(batch_size),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_outlive_interrupts,
        # A loader draws a seed whenever it is iterated. From the generator that dropout draws from, a run that resumes
        # within an epoch would get other dropout than one that was never interrupted.
        generator=torch.Generator(),
    )


def _outlive_interrupts(worker: int) -> None:
    """Ctrl-C and SIGTERM often reach the whole process group, but the trainer needs its workers to end the update.

    A second SIGTERM, as the loader sends to workers that do not leave, ends one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors moved to `device`, without waiting where they are pinned."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
