"""A second task, as small as one can be: name the object in a picture, by two layers. All of it stands in this file.

It shows what a task needs: a configuration, and the methods of `tasks.base.Task`. `tests/tasks/test_second_task.py`
registers it and runs every command.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from modelscope.trainers.builder import TRAINERS
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conf.common import LoopConfig, ScoringConfig
from conf.typed import opt
from config import TaskConfig
from data.files import read_object, write_json
from data.run_folder import RunFolder
from evaluation.bootstrap import Contributions, intervals
from evaluation.judgement import Judgement
from report.card import Card
from tasks.base import Built, DrawnSet
from trainers.distributed import World
from trainers.modelscope import OFATrainer
from trainers.objective import Objective, ObjectiveOutput

NAMES = ("circle", "cross", "square")
SIDE = 12  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    images: int = opt(120, "drawings of each split", low=1)
    num_workers: int = opt(0, "processes that load images", low=0)
    skip_bad: bool = opt(False, "leave out faulty records")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    best_metric: Literal["accuracy"] = opt("accuracy", "validation score that names the best checkpoint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapesConfig(TaskConfig):
    task: Literal["shapes"] = opt("shapes", "the task")
    hidden: int = opt(16, "width of the first layer", low=1)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    eval: ScoringConfig = dataclasses.field(default_factory=ScoringConfig)


@dataclasses.dataclass(frozen=True)
class Drawing:
    path: str
    name: str

    @property
    def pixels(self) -> Tensor:
        return torch.from_numpy(np.asarray(Image.open(self.path), dtype=np.float32) / 255).flatten()


def draw(folder: Path, images: int, seed: int) -> None:
    for split in ("train", "val"):
        rng = np.random.default_rng([seed, split == "val"])
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            picture = Image.new("L", (SIDE, SIDE))
            pen, (x, y) = ImageDraw.Draw(picture), rng.integers(2, 5, 2).tolist()
            name = NAMES[number % len(NAMES)]
            if name == "circle":
                pen.ellipse((x, y, x + 5, y + 5), outline=255)
            elif name == "square":
                pen.rectangle((x, y, x + 5, y + 5), fill=255)
            else:
                pen.line((x, y, x + 5, y + 5), fill=255)
                pen.line((x, y + 5, x + 5, y), fill=255)
            picture.save(folder / split / f"{number}-{name}.png")


class Items:
    def __init__(self, drawings: Sequence[Drawing], seed: int) -> None:
        self.drawings = drawings
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.drawings))

    def __len__(self) -> int:
        return len(self.drawings)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawing = self.drawings[self.order[index]]
        return drawing.pixels, NAMES.index(drawing.name)


def collate(items: Iterable[tuple[Tensor, int]]) -> dict[str, Tensor]:
    pixels, names = zip(*items, strict=True)
    return {"pixels": torch.stack(pixels), "names": torch.tensor(names)}


class Naming(Objective):
    def count(self, batch: dict, step: int) -> int:
        return len(batch["names"])

    def __call__(self, model: nn.Module, batch: dict, step: int) -> ObjectiveOutput:
        loss = nn.functional.cross_entropy(model(batch["pixels"]), batch["names"], reduction="sum")
        return ObjectiveOutput(loss, {"loss": (loss.detach(), len(batch["names"]))})


class Shapes:
    trainer = "shapes-naming"
    controls: Sequence[str] = ("blank-image", "majority")

    def splits(self, config: ShapesConfig) -> list[str]:
        return ["train", "val"]

    def drawn_set(self, config: ShapesConfig) -> DrawnSet:
        images, seed = config.data.images, config.seed
        return DrawnSet(lambda folder: draw(folder, images, seed), frozenset(("seed", "data.images")))

    def read(self, config: ShapesConfig, split: str) -> list[Drawing]:
        folder = RunFolder(config.work_dir).drawn_data
        if not folder.exists():
            self.drawn_set(config).draw(folder)
        files = sorted((folder / split).glob("*.png"))
        return [Drawing(str(file), file.stem.partition("-")[2]) for file in files]

    def check(self, config: ShapesConfig, records: list[Drawing], world: World) -> list[Drawing]:
        return records

    def examine(self, config: ShapesConfig, records: list[Drawing]) -> Any:
        raise NotImplementedError

    def identity(self, records: list[Drawing]) -> dict[str, str]:
        names = " ".join(Path(record.path).name for record in records)
        return {"drawings": hashlib.sha256(names.encode()).hexdigest()}

    def build(self, config: ShapesConfig, records: Mapping[str, list[Drawing]], last: Path | None) -> Built:
        return self._built(config.hidden, last)

    def _built(self, hidden: int, checkpoint: Path | None) -> Built:
        model = nn.Sequential(nn.Linear(SIDE * SIDE, hidden), nn.ReLU(), nn.Linear(hidden, len(NAMES)))
        if checkpoint is not None:
            model.load_state_dict(load_file(checkpoint / "model.safetensors"))

        def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
            save_file(dict(weights), folder / "model.safetensors")
            write_json(folder / "config.json", {"hidden": hidden})

        return Built(model, None, write, collate)

    def items(self, config: ShapesConfig, built: Built, records: list[Drawing], world: World) -> Items:
        return Items(records, config.seed)

    def objective(
        self, config: ShapesConfig, built: Built, records: list[Drawing], world: World
    ) -> tuple[Objective, Sequence[Any]]:
        return Naming(), []

    def validate(
        self, config: ShapesConfig, built: Built, records: Mapping[str, list[Drawing]], world: World
    ) -> Callable[[], dict[str, Any]]:
        return lambda: {"accuracy": accuracy(records["val"], self.predict(config, built, records["val"], None))}

    def open(self, config: ShapesConfig, checkpoint: Path, records: list[Drawing] | None) -> Built:
        return self._built(read_object(checkpoint / "config.json")["hidden"], checkpoint)

    def needs_model(self, control: str | None) -> bool:
        return control != "majority"

    @torch.no_grad()
    def predict(
        self, config: ShapesConfig, built: Built | None, records: list[Drawing], control: str | None
    ) -> list[str]:
        if built is None:
            return [Counter(record.name for record in records).most_common(1)[0][0]] * len(records)
        pixels = torch.stack([record.pixels for record in records]) * (control != "blank-image")
        return [NAMES[row] for row in built.model(pixels).argmax(1).tolist()]

    def judge(self, config: ShapesConfig, records: list[Drawing], predictions: list[str], title: str) -> Judgement:
        rows = [
            {
                "image_id": Path(record.path).stem,
                "image": record.path,
                "name": name,
                "references": [record.name],
                "scores": {"accuracy": float(name == record.name)},
            }
            for record, name in zip(records, predictions, strict=True)
        ]
        found = {"accuracy": accuracy(records, predictions)}
        return Judgement(found | {"intervals": intervals(Contributions.of(rows), config.eval.bootstrap)}, rows)

    def card(self, row: Mapping[str, Any]) -> Card:
        return Card(row["image"], "object", row["name"], row["references"], score=100 * row["scores"]["accuracy"])


def accuracy(records: Sequence[Drawing], predictions: Sequence[str]) -> float:
    return sum(record.name == name for record, name in zip(records, predictions, strict=True)) / len(records)


@TRAINERS.register_module(module_name=Shapes.trainer)
class ShapesTrainer(OFATrainer):
    pass


TASK = Shapes()
