"""Two captions, and whether they are of one image: COCO pre-training."""

from collections.abc import Hashable, Sequence
from typing import Literal

from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.texts import PairCut, Text, cut_pair, masked, pair

Alone = Literal["other", "drop"]

#: Above this, the second caption is of another image.
_OTHER_ABOVE = 0.5


class CaptionPairs:
    """Draws a second caption for each caption.

    Args:
        images: the image of each caption.
        alone: what becomes of an image with one caption, at which the original stops: "other" pairs it with captions of
            other images only, "drop" leaves it out as a first caption.

    Raises:
        ValueError: all captions are of one image, or another `alone`.
    """

    def __init__(self, images: Sequence[Hashable], *, alone: Alone = "other") -> None:
        if alone not in ("other", "drop"):
            raise ValueError(f'alone is {alone!r}: choose "other" or "drop"')
        self.images = images
        self._of_image: dict[Hashable, list[int]] = {}
        for number, image in enumerate(images):
            self._of_image.setdefault(image, []).append(number)
        if len(self._of_image) < 2:
            raise ValueError(f"pairs of captions need two images; there are {len(self._of_image)}")
        #: The captions that are first of a pair.
        self.firsts = [n for n, image in enumerate(images) if alone == "other" or len(self._of_image[image]) > 1]

    def draw(self, caption: int, draws: Draws) -> tuple[int, bool]:
        """A second caption for a caption, both by number, and whether they are of one image.

        One number decides which it shall be, then whole numbers are drawn until one fits.
        """
        image = self.images[caption]
        rest = [number for number in self._of_image[image] if number != caption]
        if draws.random() <= _OTHER_ABOVE and rest:
            return rest[draws.randint(0, len(rest) - 1)], True
        while True:
            other = draws.randint(0, len(self.images) - 1)
            if self.images[other] != image:
                return other, False


def caption_text(
    vocabulary: WordPieces,
    first: Sequence[int],
    second: Sequence[int],
    draws: Draws,
    *,
    limit: int = 128,
    cut: PairCut = "longest_first",
) -> Text:
    """`[CLS] first [SEP] second [SEP]` with words masked."""
    return masked(vocabulary, pair(vocabulary, *cut_pair(first, second, limit, rule=cut)), draws)
