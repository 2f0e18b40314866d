"""What a captioner reads: the images of a plan of batches, prepared by a loader's workers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from data.loading import ImageCache
from data.samples import Sample
from preprocessors.collate import collate

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor


def plan_batches(images: Sequence[str], batch_size: int) -> list[list[tuple[int, ...]]]:
    """Which rows of `images` are decoded together: batches of groups of rows, one group an image.

    A batch has at most `batch_size` rows. Images are in order of first appearance; an image with more rows is divided.
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image, []).append(row)
    batches: list[list[tuple[int, ...]]] = []
    room = 0
    for group in rows.values():
        for start in range(0, len(group), batch_size):
            part = tuple(group[start : start + batch_size])
            if len(part) > room:
                batches.append([])
                room = batch_size
            batches[-1].append(part)
            room -= len(part)
    return batches


#: Rows of a plan whose image is broken, and how.
Broken = tuple[tuple[int, ...], ValueError]
#: A batch, None where nothing of it is whole, and what is broken.
Loaded = tuple[dict[str, Any] | None, list[Broken]]


class RequestedImages(Dataset[Any]):
    """Item `rows` of a batch plan: the image of these samples with a prompt each; where it is broken, rows and error.

    `features`: what the tower makes of all images, which are then not loaded. The error is returned, not raised: a
    loader would bury it in a worker's traceback.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessor: "OfaStylishImageCaptioningPreprocessor",
        blank_images: bool,
        features: ImageCache | None = None,
    ) -> None:
        self.samples = samples
        self.preprocessor = preprocessor
        self.blank_images = blank_images
        self.features = features

    def __getitem__(self, rows: tuple[int, ...]) -> Mapping[str, Any] | Broken:
        # The row takes the place of the image's id: it tells where the caption belongs, whatever the batch does to it.
        asked = [replace(self.samples[row], image_id=str(row), caption="", references=()) for row in rows]
        image = asked[0].image
        shown = None if self.blank_images else image if self.features is None else self.features[image]
        try:
            return self.preprocessor({"image": shown, "samples": asked})
        except ValueError as error:
            return rows, error


def collate_whole(items: list[Mapping[str, Any] | Broken]) -> Loaded:
    whole = [item for item in items if not isinstance(item, tuple)]
    return collate(whole) if whole else None, [item for item in items if isinstance(item, tuple)]
