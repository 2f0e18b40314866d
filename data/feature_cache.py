"""What a frozen tower makes of each training image, computed once and shared by all processes of a machine."""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from data.files import replacing
from data.loading import ImageCache

_BATCH = 32  # images of one call of the tower


class FeatureCache(ImageCache):
    """Features in one file, mapped into memory: `cache[path]` -> float16 [V, C, h, w], read-only.

    V views of an image (as it is, mirrored) take the place of the flips that a frozen tower never sees. The file is
    used again for as long as images, shape and `maker` stay the same, as `ImageCache` says.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        paths: Sequence[str],
        shape: tuple[int, int, int, int],
        maker: str,
        compute: Callable[[list[str]], np.ndarray],
    ) -> None:
        """
        Args:
            shape: (V, C, h, w) of an image.
            maker: names what makes the features: the tower, its weights, the size of the pictures.
            compute: images -> float [n, V, C, h, w]; runs only to build.

        Raises ValueError if an image is missing, if features have another shape or do not fit, and what `compute`
        raises.
        """
        self.shape = tuple(shape)
        self.maker = maker
        self.compute: Callable[[list[str]], np.ndarray] | None = compute
        super().__init__(file, paths, 0, _no_image)
        self.compute = None  # it holds a tower, which no worker needs

    @property
    def _bytes(self) -> int:
        return len(self._paths) * prod(self.shape) * np.dtype(np.float16).itemsize

    def _open(self) -> np.ndarray:
        return np.memmap(self.file, np.float16, "r", shape=(len(self._paths), *self.shape)).view(np.ndarray)

    def _fingerprint(self) -> bytes:
        return sha256(super()._fingerprint() + f"{self.maker} {self.shape}".encode()).digest()

    def _stored_fingerprint(self) -> bytes | None:
        digest = sha256().digest_size
        if not self.file.is_file() or self.file.stat().st_size != self._bytes + digest:
            return None
        with open(self.file, "rb") as stream:
            stream.seek(self._bytes)
            return stream.read()

    def _build(self, load: Callable[[str], np.ndarray], fingerprint: bytes) -> None:
        names = [os.fsdecode(path) for path in self._paths.tolist()]
        progress = tqdm(desc="features of images", total=len(names), delay=2, leave=False)
        with progress, replacing(Path(self.file)) as temporary, open(temporary, "wb") as stream:
            for start in range(0, len(names), _BATCH):
                part = names[start : start + _BATCH]
                stream.write(self._features(part))
                progress.update(len(part))
            stream.write(fingerprint)

    def _features(self, names: list[str]) -> bytes:
        assert self.compute is not None, "it is set while the file is built"
        made: Any = self.compute(names)
        if made.shape != (len(names), *self.shape):
            raise ValueError(f"{names[0]}: features of shape {self.shape} were to be kept, but {made.shape[1:]} came")
        if not np.abs(made).max() <= np.finfo(np.float16).max:
            raise ValueError(
                f"{names[0]} or one of the next images: features beyond what float16 holds: set data.cache_features to "
                "false"
            )
        return made.astype(np.float16).tobytes()


def _no_image(path: str) -> np.ndarray:
    raise AssertionError(f"{path}: features are computed, not loaded")
