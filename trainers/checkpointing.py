"""A run's checkpoints on disk: whole or not there, at most so many, with links to the best and the last."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATE_FILE = "training_state.pt"
_NAME = re.compile(r"step-(\d+)")


class CheckpointFolder:
    """`root/step-000500/`, …, and the links `root/last` and `root/best`.

    Args:
        root: the folder; made when the first checkpoint is saved.
        keep: most checkpoints kept beside the best.
    """

    def __init__(self, root: str | os.PathLike[str], keep: int):
        self.root = Path(root)
        self.keep = keep

    def save(self, step: int, write: Callable[[Path], None], state: dict[str, Any]) -> Path:
        """Save checkpoint `step`: `write` fills a folder with the model, `state` is kept beside it.

        Everything is written under a temporary name and renamed when it is on disk; until then the former checkpoints
        stay as they are.

        Raises:
            OSError: the disk is full or not writable; what was there before is whole.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        final = self.root / f"step-{step:06d}"
        temporary = self.root / f".{final.name}.{os.getpid()}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            write(temporary)
            save_state(state, temporary / STATE_FILE)
            _sync(temporary)
            if final.exists():  # a checkpoint of the same update, as after an interruption
                shutil.rmtree(final)
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.link("last", final)
        return final

    def link(self, name: str, checkpoint: Path) -> None:
        """Point `root/name` at a checkpoint, without a moment at which it points nowhere."""
        temporary = self.root / f".{name}.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(checkpoint.name)
        temporary.replace(self.root / name)

    def find(self, name: str) -> Path | None:
        """The checkpoint that `name` ("last", "best") points at, if any."""
        path = self.root / name
        return path.resolve() if path.exists() else None

    def prune(self) -> None:
        """Remove the oldest checkpoints over `keep`; the best and the last always stay."""
        saved = sorted((path for path in self.root.iterdir() if _NAME.fullmatch(path.name)), key=lambda p: p.name)
        protected = {self.find("best"), self.find("last")}
        spare = [path for path in saved if path.resolve() != self.find("best")]
        for path in spare[: -self.keep]:
            if path.resolve() not in protected:
                shutil.rmtree(path)


def save_state(state: dict[str, Any], path: Path) -> None:
    """`torch.save` whose failures are the OSError that they mean."""
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written ({error}); is the disk full?") from error


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The state saved with a checkpoint.

    Raises:
        ValueError: the file is missing or damaged.
    """
    path = checkpoint / STATE_FILE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{checkpoint}: holds no {STATE_FILE}, so no run can be resumed from it") from None
    except Exception as error:
        raise ValueError(f"{path}: is damaged ({error}); resume from an older checkpoint of the folder") from error


def _sync(folder: Path) -> None:
    """Force the folder's files to disk, so that a rename never outlives what it names."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
