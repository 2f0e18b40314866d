"""What loader workers read: groups of captions of one image, and a cache of decoded images that they share."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from data.files import locked, replacing
from data.groups import packed_groups
from data.images import DECODING
from data.samples import Split

_DIGEST = sha256().digest_size
_TRIES = 8  # at finding a caption of another image
_PART = 512  # images decoded before they are written


class ImageCache:
    """Images decoded once into one file, which all processes of a machine map into memory: `cache[path]` -> uint8
    [S, S, 3], read-only.

    The file is built by the first process that wants it and used again for as long as the list of images, their sizes
    and modification times and S stay the same; it is renamed into place when it is whole. Pickling passes its name on,
    not its content.
    """

    def __init__(
        self, file: str | os.PathLike[str], paths: Sequence[str], side: int, load: Callable[[str], np.ndarray]
    ) -> None:
        """`load` decodes one image into uint8 [S, S, 3], S = `side`; it runs in several threads, and only to build.

        Raises ValueError if an image is missing, and what `load` raises.
        """
        self.file = Path(file)
        self.side = side
        # Sorted fixed-width bytes instead of a dictionary: no objects for forked workers to copy.
        self._paths = np.unique(np.array([os.fsencode(path) for path in paths]))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.file.with_name(f".{self.file.name}.lock")):
            fingerprint = self._fingerprint()
            if self._stored_fingerprint() != fingerprint:
                self._build(load, fingerprint)
            self._images = self._open()

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: str) -> bool:
        return self._row(path) is not None

    def __getitem__(self, path: str) -> np.ndarray:
        row = self._row(path)
        if row is None:
            raise KeyError(path)
        image: np.ndarray = self._images[row]
        return image

    def _row(self, path: str) -> int | None:
        key = os.fsencode(path)
        # A longer key would make numpy widen the whole array for the search.
        row = int(np.searchsorted(self._paths, key)) if len(key) <= self._paths.itemsize else len(self._paths)
        return row if row < len(self._paths) and self._paths[row] == key else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._images = self._open()

    def _open(self) -> np.ndarray:
        # The plain view spares each access the bookkeeping of np.memmap.
        shape = (len(self._paths), self.side, self.side, 3)
        return np.memmap(self.file, np.uint8, "r", shape=shape).view(np.ndarray)

    def _fingerprint(self) -> bytes:
        digest = sha256(f"{self.side} {DECODING}\n".encode())
        for path in self._paths.tolist():
            try:
                status = os.stat(path)
            except OSError as error:
                raise ValueError(
                    f"{os.fsdecode(path)}: cannot cache the image ({error.strerror}): run doctor, or set data.skip_bad"
                ) from None
            digest.update(b"%s\0%d %d\n" % (path, status.st_size, status.st_mtime_ns))
        return digest.digest()

    def _stored_fingerprint(self) -> bytes | None:
        """The end of the file, if there is a file of the right size."""
        size = len(self._paths) * self.side**2 * 3
        if not self.file.is_file() or self.file.stat().st_size != size + _DIGEST:
            return None
        with open(self.file, "rb") as stream:
            stream.seek(size)
            return stream.read()

    def _build(self, load: Callable[[str], np.ndarray], fingerprint: bytes) -> None:
        names = [os.fsdecode(path) for path in self._paths.tolist()]
        progress = tqdm(desc="caching images", total=len(names), delay=2, leave=False)
        # Threads are enough: Pillow decodes and resizes without holding the interpreter lock.
        with (
            progress,
            ThreadPoolExecutor(os.cpu_count()) as pool,
            replacing(self.file) as temporary,
            open(temporary, "wb") as stream,
        ):
            # Part by part, so that decoded images never pile up in memory.
            for start in range(0, len(names), _PART):
                part = names[start : start + _PART]
                for name, image in zip(part, pool.map(load, part), strict=True):
                    stream.write(self._checked(name, image))
                    progress.update()
            stream.write(fingerprint)

    def _checked(self, name: str, image: np.ndarray) -> bytes:
        shape = (self.side, self.side, 3)
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"{name}: to be cached as uint8 {shape}, but loaded as {image.dtype} {image.shape}")
        return image.tobytes()


class CaptionGroupsDataset(Dataset[dict[str, Any]]):
    """The training groups of one epoch: item i is `{image, image_id, rows}`, `rows` a list of `Sample` of one image.

    `captions_per_request` leaves at most so many captions of each image and style in an epoch.

    `image` is the path, or what a cache holds for it: the decoded uint8 [S, S, 3], or features. `set_epoch` draws new
    groups, in loader workers that stay alive between epochs too; their number is the same in every epoch.
    """

    def __init__(
        self,
        split: Split,
        captions_per_image: int,
        seed: int,
        cache: ImageCache | None = None,
        *,
        captions_per_request: int | None = None,
    ) -> None:
        self.split = split
        self.captions_per_request = captions_per_request
        self.captions_per_image = captions_per_image
        self.seed = seed
        self.cache = cache
        # In shared memory, because workers are copies of this object made before the next epoch is set.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._drawn = -1  # the epoch of the groups below
        self._draw(0)

    def set_epoch(self, epoch: int) -> None:
        """Selects the groups of this epoch, counted from 0. To be called before the loader is iterated."""
        self._epoch.fill_(epoch)

    def _draw(self, epoch: int) -> None:
        if epoch != self._drawn:
            self._rows, self._bounds = packed_groups(
                self.split,
                self.captions_per_image,
                self.seed,
                epoch,
                captions_per_request=self.captions_per_request,
            )
            self._drawn = epoch

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def other_caption(self, image_id: str, seed: int) -> str:
        """A random caption of another image; empty where there is none in a few draws."""
        for row in np.random.default_rng(seed).integers(len(self.split), size=_TRIES):
            sample = self.split[int(row)]
            if sample.image_id != image_id:
                return sample.caption
        return ""

    def __getitem__(self, index: int) -> dict[str, Any]:
        self._draw(int(self._epoch))
        i = range(len(self))[index]
        rows = [self.split[row] for row in self._rows[self._bounds[i] : self._bounds[i + 1]]]
        first = rows[0]
        return {
            "image": first.image if self.cache is None else self.cache[first.image],
            "image_id": first.image_id,
            "rows": rows,
        }
