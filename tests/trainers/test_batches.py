"""Which groups a rank reads at which update, and that pictures depend on nothing but seed, epoch and place."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data import read_split
from data.loading import CaptionGroupsDataset
from preprocessors.collate import collate
from tasks.captioning.items import TrainingItems
from tests.models.nano import nano_preprocessor
from tests.trainers.nano import STYLES
from trainers.batches import MicroBatches, UpdateSampler, end_workers, to_device, training_loader


def updates(groups: int, **settings: Any) -> list[list[int]]:
    return list(UpdateSampler(groups, **settings))


@given(
    batch_size=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    ranks=st.integers(1, 4),
    whole=st.integers(1, 4),
    rest=st.integers(0, 59),
)
def test_ranks_together_read_what_one_rank_reads(batch_size, accumulation, ranks, whole, rest):
    stride = batch_size * accumulation * ranks
    groups = whole * stride + rest % stride
    shares = [
        updates(groups, batch_size=batch_size, accumulation=accumulation, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    assert {len(share) for share in shares} == {whole}
    together = [list(chain.from_iterable(shares_of_one)) for shares_of_one in zip(*shares, strict=True)]
    assert together == updates(groups, batch_size=batch_size * ranks, accumulation=accumulation)
    # Every group once, in order; only what fills no update is left out.
    assert list(chain.from_iterable(together)) == list(range(whole * stride))


def test_start_skips_the_updates_that_are_done():
    sampler = UpdateSampler(23, batch_size=2, accumulation=2, rank=1, ranks=2)
    assert len(sampler) == 2
    everything = list(sampler)
    assert everything == [[4, 5, 6, 7], [12, 13, 14, 15]]
    sampler.start = 1
    assert len(sampler) == 1
    assert list(sampler) == everything[1:]
    sampler.start = 2
    assert list(sampler) == []


def test_batch_larger_than_the_split():
    with pytest.raises(ValueError, match=r"takes 24 items.*batch_size 4 x .*accumulation 3 x 2 processes.*only 23"):
        UpdateSampler(23, batch_size=4, accumulation=3, ranks=2)
    assert len(UpdateSampler(24, batch_size=4, accumulation=3, ranks=2)) == 1


# --- items -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def items(demo: Path) -> TrainingItems:
    """Pictures of 64 pixels of which 40 are cut out, mirrored half of the time."""
    split = read_split(
        "train",
        format="personality",
        annotations=str(demo / "nano_train.json"),
        image_dir=str(demo / "images"),
        styles=str(demo / "styles.txt"),
    )
    preprocessor = nano_preprocessor(STYLES, patch_image_size=40, max_image_size=64, flip=True, mode="train")
    return TrainingItems(CaptionGroupsDataset(split, 2, seed=5), preprocessor, seed=5)


def read(items: TrainingItems, workers: int, epoch: int, start: int = 0) -> list[dict[str, Any]]:
    """All micro-batches of an epoch."""
    sampler = UpdateSampler(len(items), batch_size=3, accumulation=2)
    loader = training_loader(items, sampler, collate, batch_size=3, num_workers=workers, pin_memory=False)
    items.set_epoch(epoch)
    sampler.start = start
    found = [batch for update in loader for batch in update]
    end_workers(loader)
    return found


def tensors(batch: dict[str, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if isinstance(value, Tensor)}


def test_pictures_do_not_depend_on_workers_or_on_where_reading_starts(items):
    here, elsewhere = read(items, 0, epoch=1), read(items, 2, epoch=1)
    assert len(here) == len(elsewhere) == 8
    for one, other in zip(here, elsewhere, strict=True):
        assert one["requests"] == other["requests"]
        assert all(torch.equal(value, tensors(other)[key]) for key, value in tensors(one).items())
    resumed = read(items, 2, epoch=1, start=3)
    assert [batch["requests"] for batch in resumed] == [batch["requests"] for batch in here[6:]]
    assert torch.equal(resumed[1]["patch_images"], here[7]["patch_images"])


def test_epochs_and_seeds_differ(items):
    first = items[0]["patch_image"]
    assert torch.equal(first, items[0]["patch_image"])
    items._epoch.fill_(1)  # other crops of the same groups
    assert not torch.equal(first, items[0]["patch_image"])
    items.set_epoch(1)  # other groups, too
    orders = [[item["requests"][0]["image_id"] for item in (items[i] for i in range(len(items)))]]
    items.set_epoch(0)
    orders.append([item["requests"][0]["image_id"] for item in (items[i] for i in range(len(items)))])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    other_seed: Any = TrainingItems(items.groups, items.preprocessor, seed=6)
    assert not torch.equal(first, other_seed[0]["patch_image"])


def test_places_of_an_epoch_have_their_own_crops(items):
    """With one seed for all, every picture would be cut at the same corner."""
    items.preprocessor = lambda request: {"seed": request["generator"].initial_seed()}
    assert len({items[index]["seed"] for index in range(len(items))}) == len(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_global_generator_alone(items, workers):
    """Dropout draws from it: a loader that drew, too, would make a resumed run differ."""
    before = torch.get_rng_state()
    read(items, workers, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_micro_batches(items):
    some = [items[i] for i in range(5)]
    parts = MicroBatches(2, collate)(some)
    assert isinstance(parts, list)
    assert [len(part["patch_images"]) for part in parts] == [2, 2, 1]
    assert torch.equal(parts[1]["target"], collate(some[2:4])["target"])


def test_to_device_moves_tensors_only(items):
    batch = to_device(collate([items[0]]), torch.device("meta"))
    assert {value.device.type for value in tensors(batch).values()} == {"meta"}
    assert isinstance(batch["requests"], list)
