"""Pictures: reading them quickly and safely, and turning them into the tensors that OFA sees."""

from os import PathLike

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.images import decode, to_rgb
from data.pictures import open_at

ImageSource = str | PathLike[str] | Image.Image | np.ndarray

# a JPEG may be decoded at a half, a quarter or an eighth of its size: this much more than needed leaves the final
# bicubic step enough to work with
_DRAFT_MARGIN = 2
_REMEDY = "leave it out (data.skip_bad does so in training)"


def load_image(source: ImageSource, *, draft_size: int | None = None) -> Image.Image:
    """An RGB picture, as `data.images` makes it: of a file, of one in a zip file (`X.zip/NAME`), of a PIL picture or of
    a uint8 RGB array [H,W,3].

    With `draft_size`, the side in pixels that is needed in the end, a much larger JPEG file is decoded at a fraction of
    its size. Raises `ValueError` naming the file when it is missing, truncated or no picture.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(f"an image array must be uint8 [H,W,3] in RGB order, not {source.dtype} {source.shape}")
        return Image.fromarray(source)
    if not isinstance(source, (str, PathLike, Image.Image)):
        raise ValueError(f"an image must be a path, a PIL picture or an array, not a {type(source).__name__}")
    try:
        if isinstance(source, Image.Image):
            return to_rgb(source)
        enough = None if draft_size is None else (_DRAFT_MARGIN * draft_size, _DRAFT_MARGIN * draft_size)
        with open_at(source) as stream:
            return decode(stream, draft_size=enough)
    except FileNotFoundError as error:
        raise ValueError(f"image {source} does not exist: correct its path, or {_REMEDY}") from error
    except OSError as error:
        raise ValueError(f"image {source} cannot be read ({error.strerror}): replace the file, or {_REMEDY}") from error
    except ValueError as error:
        raise ValueError(f"image {source} cannot be read ({error}): replace the file, or {_REMEDY}") from error


class ImageTransform:
    """RGB picture -> float tensor [3,P,P] in -1..1, P = `patch_image_size`.

    Bicubic resize to a square of `max_image_size` (whatever the proportions, as OFA does), then a crop to
    `patch_image_size`: anywhere in training, the centre otherwise; then mean and standard deviation 0.5. With
    `flip`, half of the pictures are mirrored in training. Raises `ValueError` for sizes that do not fit each other.
    """

    def __init__(self, patch_image_size: int, max_image_size: int, train: bool, flip: bool = False) -> None:
        if not 0 < patch_image_size <= max_image_size:
            raise ValueError(
                f"patch_image_size {patch_image_size} must be positive and at most max_image_size {max_image_size}"
            )
        self.patch_image_size = patch_image_size
        self.max_image_size = max_image_size
        self.train = train
        self.flip = flip

    def __call__(
        self, image: Image.Image | np.ndarray, generator: torch.Generator | None = None, *, may_flip: bool = True
    ) -> Tensor:
        """`image`: RGB picture or uint8 [H,W,3]; one already at `max_image_size` is not resized again.

        `generator` draws the crop and the flip. `may_flip`: false where the text says left or right.
        """
        size, room = self.patch_image_size, self.max_image_size - self.patch_image_size
        pixels = self.resize(image)
        top, left = (self._draw(room, generator), self._draw(room, generator)) if self.train else (room // 2, room // 2)
        pixels = pixels[top : top + size, left : left + size]
        mirrored = self.flips(generator)
        if mirrored and may_flip:
            pixels = pixels[:, ::-1]
        # one contiguous copy of bytes before the floats: four times less memory to move
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return tensor.to(torch.float32).div_(255).sub_(0.5).div_(0.5)

    def flips(self, generator: torch.Generator | None) -> bool:
        """Draws whether a picture is mirrored."""
        return self.train and self.flip and self._draw(1, generator) == 1

    def resize(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """uint8 [S,S,3], S = `max_image_size`: what a cache of decoded pictures should hold."""
        size = (self.max_image_size, self.max_image_size)
        if isinstance(image, np.ndarray):
            if image.shape[:2] == size:
                return image
            image = Image.fromarray(image)
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))

    @staticmethod
    def _draw(highest: int, generator: torch.Generator | None) -> int:
        return int(torch.randint(highest + 1, (), generator=generator)) if highest else 0
