"""Runs of a nano model on a rendered data set: a second each, on one thread."""

import copy
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from modelscope.trainers.hooks.hook import Hook
from safetensors.torch import load_file
from torch import Tensor

from config import Config, parse_config
from tasks.training import prepare
from trainers.distributed import World

STYLES = ("Factual", "Cynical")
UPDATES = 4  # of an epoch, with the settings below
DOCUMENT: dict[str, Any] = {
    "model": {
        "config": {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "resnet_type": "resnet18",
            "image_bucket_size": 8,
            "token_bucket_size": 32,
        },
        "vocabulary": "train",
        "vocabulary_size": 300,
    },
    "data": {"patch_image_size": 32, "max_image_size": 40, "num_workers": 0},
    "train": {
        "max_epochs": 2,
        "batch_size": 6,
        "captions_per_image": 2,
        "lr": 1e-3,
        "dropout": 0.1,
        "drop_path": 0.0,
        "dtype": "float32",
        "log_every": 1,
        "tensorboard": False,
    },
    "eval": {"beam_size": 1, "max_len_b": 2},
}

#: Nothing random and no statistics of a batch: what a run must be for its batches to be divided at will. The large
#: epsilon makes an update proportional to its gradient: where a gradient is zero but for rounding, as that of a key's
#: bias is, plain Adam would make a full step in a random direction.
DIVISIBLE = [
    "train.freeze_resnet=true",
    "train.dropout=0",
    "train.drop_path=0",
    "train.adam_eps=1",
    "train.lr=5",
    "train.warmup_proportion=0",
]


def write_annotations(folder: Path, name: str, images: int) -> Path:
    """The first `images` images of the rendered split `name`, with one caption in each of `STYLES`."""
    records = json.loads((folder / f"{name}.json").read_text())
    records = [record | {"additional_comments": []} for record in records if record["personality"] in STYLES]
    file = folder / f"nano_{name}.json"
    file.write_text(json.dumps(records[: images * len(STYLES)]))
    return file


def nano_document(demo: Path, work_dir: Path) -> dict[str, Any]:
    """24 images with two captions each: 24 groups, so four updates of six an epoch; nothing to validate on."""
    data = {
        "image_dir": str(demo / "images"),
        "train": str(demo / "nano_train.json"),
        "styles": str(demo / "styles.txt"),
    }
    document = copy.deepcopy(DOCUMENT)  # for the caller to change
    document["data"] |= data
    return document | {"work_dir": str(work_dir)}


def nano_config(demo: Path, work_dir: Path, *sets: str) -> Config:
    return parse_config(nano_document(demo, work_dir), sets=sets)


class Interrupt(Hook):
    """Ctrl-C during update `update`, counted from 1."""

    def __init__(self, update: int):
        self.update = update

    def before_train_iter(self, trainer: Any) -> None:
        if trainer.iter + 1 == self.update:
            signal.raise_signal(signal.SIGINT)


def train(config: Config, *, resume: bool = False, interrupt: int | None = None) -> Any:
    """A trainer that has trained; stopped by Ctrl-C during update `interrupt`."""
    trainer = prepare(config, World(), resume)
    if interrupt is None:
        trainer.train(resume=resume)
        return trainer
    trainer.register_hook(Interrupt(interrupt))
    try:
        trainer.train(resume=resume)
    except KeyboardInterrupt:
        return trainer
    raise AssertionError(f"the run went on to step {trainer.iter}")


def first_batch(trainer: Any) -> dict[str, Any]:
    """The first micro-batch that a trainer would read."""
    loop = trainer.loop
    [first, *_] = loop.sampler
    return dict(loop.collate([loop.items[index] for index in first[: loop.batch_size]]))


def history(config: Config, value: str = "loss") -> list[tuple[int, float]]:
    """(step, value) of every line of the run's history that has the value, in order of lines."""
    lines = (Path(config.work_dir) / "history.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [(entry["step"], entry[value]) for entry in entries if value in entry]


def saved_weights(config: Config, name: str = "last") -> dict[str, Tensor]:
    return load_file(Path(config.work_dir) / "checkpoints" / name / "model.safetensors")


def assert_equal(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert different == []


def assert_close(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], atol: float) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        difference = (actual[name].double() - expected[name].double()).abs().max().item()
        assert difference <= atol, f"{name} differs by {difference}"
