"""What the training loop reads: items of a task, prepared by workers, in a resumable order."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = dict[str, Any]
Collate = Callable[[list[Any]], Mapping[str, Any]]


class Items(Protocol):
    """What is learnt from in one epoch, by position. An item that cannot be made is an Exception in its place: raised
    in a loader's worker, it would arrive as that worker's whole traceback."""

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


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
                f"one update takes {self.stride} items (train.batch_size {batch_size} x "
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

    def __init__(self, batch_size: int, collate: Collate):
        self.batch_size = batch_size
        self.collate = collate

    def __call__(self, items: list[Any]) -> list[Batch] | Exception:
        broken = next((item for item in items if isinstance(item, Exception)), None)
        if broken is not None:
            return broken
        return [dict(self.collate(items[i : i + self.batch_size])) for i in range(0, len(items), self.batch_size)]


def training_loader(
    items: Items, sampler: UpdateSampler, collate: Collate, *, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """Yields for each update its list of micro-batches, `list[Batch]`, or the Exception of an item that is broken.

    Whoever iterates it calls `end_workers` at the end.
    """
    return DataLoader(
        cast(Dataset[Any], items),  # it has the methods of one
        batch_sampler=sampler,
        collate_fn=MicroBatches(batch_size, collate),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_outlive_signals,
        # A loader draws a seed whenever it is iterated. From the generator that dropout draws from, a run that resumes
        # within an epoch would get other dropout than one that was never interrupted.
        generator=torch.Generator(),
    )


def _outlive_signals(worker: int) -> None:
    """Signals often reach the whole process group, but the trainer needs its workers to end the update. They end when
    `end_workers` kills them, or on their own when their parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def next_update(updates: Iterator[Any]) -> Any:
    """The next update of a loader.

    Raises:
        RuntimeError: a worker died; also where torch lets the error of its connection through, as the worker was
            handing a batch over.
    """
    try:
        return next(updates)
    except (ConnectionError, EOFError) as error:
        raise RuntimeError(f"DataLoader worker is gone: {error or type(error).__name__}") from error


def end_workers(loader: DataLoader[Any]) -> None:
    """End the processes of a loader now. Left to the interpreter's exit, it would wait for them for ever while a
    traceback still holds the loader."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is None:
        return  # no worker was started
    with suppress(RuntimeError):  # torch's handler of SIGCHLD raises one here when a worker has just died
        iterator._shutdown_workers()  # tells them to leave, and torch to take no offence at it
    for worker in iterator._workers:
        worker.kill()  # those that did not listen
        worker.join()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors moved to `device`, without waiting where they are pinned."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
