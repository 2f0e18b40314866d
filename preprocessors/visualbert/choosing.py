"""VCR's questions with the regions of their picture to what VisualBERT chooses from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from data.features.regions import Regions
from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.reader import PictureReader
from preprocessors.visualbert.vcr import Choice, choices


def object_regions(picture: Regions, item: Mapping[str, Any]) -> Regions:
    """The whole picture and the objects that an item points at, of a picture whose regions are the whole and every
    object in order.

    Raises:
        ValueError: the picture has regions of something else.
    """
    wanted = 1 + len(item["objects"])
    if len(picture) != wanted:
        raise ValueError(
            f"picture {picture.image_id} has {len(picture)} regions, but VCR's are the whole picture and its "
            f"{wanted - 1} objects: make a store with the command features vcr"
        )
    rows = [0, *(number + 1 for number in item["used"])]
    boxes = None if picture.boxes is None else picture.boxes[rows]
    return replace(picture, features=picture.features[rows], boxes=boxes, labels={}, grid=None)


class ChoiceReader(PictureReader):
    """`[CLS] question [SEP] choice [SEP]` of four choices over the same regions, each region aligned with the words
    that name it; see `models.visualbert`.
    """

    def __call__(self, text: str, images: Sequence[Regions]) -> dict[str, Any]:
        """Refused: a question alone has nothing to choose from."""
        raise ValueError("this model chooses among the four choices of VCR's files: ask it about a split")

    def choose(self, item: Mapping[str, Any], picture: Regions, *, asked: bool = True) -> dict[str, Any]:
        """An item for `collate`, of the extra fields of a question (`data.questions.vcr`).

        With reasons among the fields these are the choices. Without `asked` the question's words are hidden, and the
        choices stay. Raises ValueError for a picture with other regions, and a question of reasons whose right answer
        is not known.
        """
        task: Any = "rationale" if "rationale_choices" in item else "answer"
        if not asked:
            item = dict(item) | {"question": []}
        made = choices(self.vocabulary, item, task, limit=self.max_words)
        return {"item": self._item(made, object_regions(picture, item))}

    def _item(self, made: Sequence[Choice], picture: Regions) -> Item:
        rows = self.regions(picture)
        return Item([one.text for one in made], rows, alignment=[one.alignment[: len(rows)] for one in made])

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The arguments of `VisualBERTModel.forward`, with an axis of choices."""
        return dict(collate([item["item"] for item in items], choices=True))
