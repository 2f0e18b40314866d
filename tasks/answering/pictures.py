"""Answers about pictures in memory: what a server asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from data.features import Regions
from models.towers.named import is_tower, tower_named
from tasks.answering.asking import best_answers
from tasks.answering.models import Settings, open_answerer
from trainers.batches import to_device


@dataclass(frozen=True)
class AskedAbout:
    """A question, and the features of its pictures."""

    question: str
    regions: tuple[Regions, ...]


class PictureAsker:
    """A model that answers, with the tower that makes of pictures what it reads."""

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        """ValueError for a folder that training did not write, and for a model whose features cannot be made here."""
        settings = Settings.read(folder)
        if not is_tower(settings.detector) or settings.cells is None:
            raise ValueError(
                f"{folder} reads features of {settings.detector or 'an unknown detector'}, which cannot be made of a "
                "picture here: a model over grids of this project's towers can be asked (features extract)"
            )
        self.settings, self.cells = settings, settings.cells
        self.answerer = open_answerer(folder)
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.answerer.model.to(chosen).eval()
        self.device = torch.device(chosen)
        self.tower = tower_named(settings.detector)

    def regions(self, picture: Image.Image) -> Regions:
        """What the model reads of a picture."""
        return self.tower.features(picture, "image", self.cells)

    @torch.no_grad()
    def ask(self, asked: Sequence[AskedAbout], top: int) -> list[Sequence[tuple[str, float]]]:
        """The `top` answers to each question with their probabilities, best first; all in one pass.

        Raises ValueError for a question that the model cannot read, and another number of pictures than it reads.
        """
        items: list[dict[str, Any]] = []
        for one in asked:
            if len(one.regions) != self.settings.images:
                raise ValueError(f"the model is asked about {self.settings.images} pictures, not {len(one.regions)}")
            items.append(self.answerer.reader(one.question, list(one.regions)))
        batch = to_device(self.answerer.reader.collate(items), self.device)
        return [
            found.top for found in best_answers(self.answerer.logits(self.answerer.model, batch), self.answerer, top)
        ]
