"""A run's checkpoints on disk: whole or not there, at most so many, with links to the best and the last."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATE_FILE = "training_state.pt"
_NAME = re.compile(r"step-\d+")
_EPOCH = re.compile(r"epoch-(\d+)")
_REMEDY = "point the link `last` beside it at an older checkpoint, or start a new run with another --work_dir"


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
        self._tidy()
        final = self.root / _name(step)
        temporary = self.root / f".{final.name}.{os.getpid()}.tmp"
        try:
            temporary.mkdir()
            write(temporary)
            save_state(state, temporary / STATE_FILE)
            _sync(temporary)
            if final.exists():  # of the same update: saved when the run was interrupted, and now validated
                final.rename(final.with_name(f".{final.name}.former"))
            temporary.rename(final)
        finally:
            self._tidy()
        self.link("last", final)
        return final

    def _tidy(self) -> None:
        """Remove what saving leaves behind, now or in a process that was killed; what is not replaced goes back."""
        for former in self.root.glob(".step-*.former"):
            final = self.root / former.stem.removeprefix(".")
            if final.exists():
                shutil.rmtree(former, ignore_errors=True)
            else:
                former.rename(final)
        for unfinished in [*self.root.glob(".step-*.tmp"), *self.root.glob(".step-*.gone")]:
            shutil.rmtree(unfinished, ignore_errors=True)
        for link in [*self.root.glob(".best.*.tmp"), *self.root.glob(".last.*.tmp")]:
            link.unlink(missing_ok=True)

    def link(self, name: str, checkpoint: Path) -> None:
        """Point `root/name` at a checkpoint, without a moment at which it points nowhere."""
        temporary = self.root / f".{name}.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(checkpoint.name)
        temporary.replace(self.root / name)

    def find(self, name: str) -> Path | None:
        """The checkpoint that `name` ("last", "best") points at, if any; "epoch-10": that of the end of epoch 10.

        A folder that was copied without its links, or whose first save was cut short, has no `last`: the newest
        checkpoint is it.
        """
        path = self.root / name
        if path.exists():
            return path.resolve()
        if epoch := _EPOCH.fullmatch(name):
            return next((found for found in self._saved() if _ends_epoch(found, int(epoch[1]))), None)
        newest = max(self._saved(), key=step_of, default=None) if name == "last" else None
        return newest.resolve() if newest else None

    def _saved(self) -> list[Path]:
        """The checkpoints that are there; each is whole, for it got its name when it was."""
        return [path for path in self.root.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]

    def best_step(self) -> int | None:
        """The update of the best checkpoint, if any."""
        best = self.find("best")
        return step_of(best) if best is not None else None

    def link_best(self, step: int) -> None:
        """Point `best` at the checkpoint of an update, if it is still there and not pointed at already."""
        checkpoint = self.root / _name(step)
        if checkpoint.exists() and self.best_step() != step:
            self.link("best", checkpoint)

    def prune(self) -> None:
        """Remove the oldest checkpoints over `keep`; the best and the last always stay."""
        best, last = self.find("best"), self.find("last")
        saved = sorted((path for path in self._saved() if path.resolve() != best), key=step_of)
        for path in saved[: -self.keep]:
            if path.resolve() != last:
                gone = path.with_name(f".{path.name}.gone")
                path.rename(gone)  # what has its name is whole, also where removing it is cut short
                shutil.rmtree(gone)
        self._tidy()


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _ends_epoch(checkpoint: Path, epoch: int) -> bool:
    """Whether a checkpoint was saved when so many epochs were done; its tensors are not read."""
    try:
        state = torch.load(checkpoint / STATE_FILE, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged one is none that is looked for
        return False
    return isinstance(state, dict) and state.get("epoch") == epoch and state.get("inner_step") == 0


def step_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix("step-"))


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{checkpoint}: holds no {STATE_FILE}, so no run can be resumed from it") from None
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        # Of torch's long messages, which go on to recommend to run the code in the file, only the first sentence.
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ValueError(f"{path}: is damaged ({reason}); {_REMEDY}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f"{path}: holds no state of a training run; {_REMEDY}")
    return state


def _sync(folder: Path) -> None:
    """Force the folder's files to disk, so that a rename never outlives what it names."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def rng_state() -> dict[str, torch.Tensor]:
    """The generators that training draws from (dropout); crops and flips have seeds of their own."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    """Put the generators back as `rng_state` found them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
