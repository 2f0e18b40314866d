"""Questions, or sentences about pairs, with the regions of their pictures, to what VisualBERT reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import BertTokenizer

from data.features.regions import Regions
from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.questions import question_text, question_words
from preprocessors.visualbert.sentences import sentence_text
from preprocessors.visualbert.texts import Text

#: x1, y1, x2, y2, width and height as shares of the picture's.
BOX_NUMBERS = 6
#: [CLS] ? [MASK] [SEP], or [CLS], a word and [SEP]
LEAST_WORDS = 4


def read_regions(
    regions: Regions, *, width: int, max_regions: int | None = None, with_boxes: bool = False
) -> NDArray[np.floating]:
    """What is read of a picture: [N, width], with boxes [N, width + `BOX_NUMBERS`].

    Args:
        max_regions: the first so many regions are read; None is all.
        with_boxes: a region's numbers are followed by the `BOX_NUMBERS` of its box.

    Raises:
        ValueError: features of another width, or no boxes.
    """
    rows = regions.features
    if rows.shape[1] != width:
        raise ValueError(
            f"picture {regions.image_id}: its features are {rows.shape[1]} wide, and the model reads {width}: use the "
            "features that it was trained with"
        )
    if with_boxes:
        boxes = regions.normalised_boxes()
        rows = np.concatenate([rows.astype(np.float32), boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)
    return rows[:max_regions]


def one_array(rows: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """The regions of all pictures of a question, [N, width]; those of a single picture are not copied."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


class PictureReader:
    """What every reader of VisualBERT is made of: words to pieces, a picture to numbers.

    Args:
        max_words: word pieces that are kept, the special ones included.
        width: numbers of a region.
        max_regions: the first so many of the regions that a question uses; None is all.
        with_boxes: as `read_regions`.

    Raises:
        ValueError: fewer words than the special ones.
    """

    def __init__(
        self,
        tokenizer: BertTokenizer,
        max_words: int,
        *,
        width: int,
        max_regions: int | None = None,
        with_boxes: bool = False,
    ) -> None:
        if max_words < LEAST_WORDS:
            raise ValueError(f"max_words = {max_words}: VisualBERT reads at least {LEAST_WORDS}, the special ones")
        self.vocabulary = WordPieces.of(tokenizer)
        self.max_words = max_words
        self.width = width
        self.max_regions = max_regions
        self.with_boxes = with_boxes

    def regions(self, regions: Regions) -> NDArray[np.floating]:
        """What is read of a picture; see `read_regions`."""
        return read_regions(regions, width=self.width, max_regions=self.max_regions, with_boxes=self.with_boxes)


class AnswerReader(PictureReader):
    """`[CLS] question ? [MASK] [SEP]` of one picture, `[CLS] sentence [SEP]` of a pair, whose regions are of type 0 and
    1; see `models.visualbert`.

    Args:
        images: pictures of a question: 1, or 2 of a pair.
        others: as `PictureReader`.
    """

    def __init__(self, tokenizer: BertTokenizer, max_words: int, *, images: int, **others: Any) -> None:
        super().__init__(tokenizer, max_words, **others)
        self.images = images

    def __call__(self, text: str, images: Sequence[Regions]) -> dict[str, Any]:
        """An item for `collate`. Raises ValueError for another number of pictures, and features of another width."""
        if len(images) != self.images:
            raise ValueError(
                f"{len(images)} pictures for a model of {self.images} a question: a pair needs its left and its right"
            )
        rows = [self.regions(one) for one in images]
        types = np.repeat(np.arange(len(rows)), [len(one) for one in rows]) if self.images > 1 else None
        return {"item": Item([self._text(text)], one_array(rows), types)}

    def _text(self, text: str) -> Text:
        split = self.vocabulary.split
        if self.images > 1:
            return sentence_text(self.vocabulary, split(text), limit=self.max_words)
        return question_text(self.vocabulary, split(" ".join(question_words(text))), limit=self.max_words)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The arguments of `VisualBERTModel.forward`."""
        return dict(collate([item["item"] for item in items]))
