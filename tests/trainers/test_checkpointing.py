"""Checkpoints on disk: whole or absent, links that always lead somewhere, and nothing that a pickle could run."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.checkpointing import STATE_FILE, CheckpointFolder, load_state, rng_state, save_state, set_rng_state


def write(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


def saved(folder: CheckpointFolder, *steps: int) -> None:
    for step in steps:
        folder.save(step, write, {"step": step})


def names(folder: CheckpointFolder) -> set[str]:
    """All that is in the folder, hidden files too."""
    return set(os.listdir(folder.root))


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "run" / "checkpoints", keep=2)


def test_save_and_find(folder):
    assert folder.find("last") is None
    path = folder.save(7, write, {"step": 7, "x": torch.arange(3)})
    assert path.name == "step-000007"
    assert (path / "model.safetensors").read_bytes() == b"weights"
    assert load_state(path)["x"].tolist() == [0, 1, 2]
    assert folder.find("last") == path.resolve()
    assert folder.find("best") is None
    assert names(folder) == {"step-000007", "last"}


def test_last_follows_and_a_link_is_relative(folder, tmp_path):
    saved(folder, 1, 2)
    assert folder.find("last").name == "step-000002"
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "checkpoints" / "last").resolve().name == "step-000002"
    assert (tmp_path / "moved" / "checkpoints" / "last").exists()


def test_the_same_step_again_replaces_the_checkpoint(folder):
    saved(folder, 3)
    folder.link("best", folder.find("last"))
    folder.save(3, lambda path: (path / "other").touch(), {"step": 3})
    assert sorted(os.listdir(folder.find("best"))) == ["other", STATE_FILE]
    assert names(folder) == {"step-000003", "last", "best"}


def test_prune_keeps_the_newest_and_the_best(folder):
    saved(folder, 1)
    folder.link("best", folder.find("last"))
    saved(folder, 2, 3, 4)
    folder.prune()
    assert names(folder) == {"step-000001", "step-000003", "step-000004", "last", "best"}
    folder.link("best", folder.find("last"))
    folder.prune()  # the former best is one like others now
    assert names(folder) == {"step-000001", "step-000003", "step-000004", "last", "best"}  # keep=2 beside the best
    saved(folder, 5)
    folder.prune()
    assert names(folder) == {"step-000003", "step-000004", "step-000005", "last", "best"}


def test_prune_never_removes_what_last_points_at(folder):
    saved(folder, 1, 2, 3)
    folder.link("last", folder.root / "step-000001")
    folder.prune()
    assert {"step-000001", "step-000002", "step-000003"} <= names(folder)


def test_prune_counts_past_a_million(folder):
    saved(folder, 999_998, 999_999, 1_000_000)
    folder.prune()
    assert names(folder) == {"step-999999", "step-1000000", "last"}


def test_leftovers_of_a_killed_process_go_and_foreign_files_stay(folder):
    saved(folder, 1)
    (folder.root / ".step-000002.999.tmp").mkdir()
    (folder.root / ".step-000002.999.tmp" / "part").touch()
    (folder.root / "notes.txt").touch()
    saved(folder, 2)
    folder.prune()
    assert names(folder) == {"step-000001", "step-000002", "last", "notes.txt"}


def test_a_checkpoint_that_was_moved_aside_comes_back(folder):
    """Killed between the two renamings of a second save of one step."""
    saved(folder, 1)
    (folder.root / "step-000001").rename(folder.root / ".step-000001.former")
    saved(folder, 2)
    assert names(folder) == {"step-000001", "step-000002", "last"}
    assert load_state(folder.root / "step-000001")["step"] == 1


# --- a full disk -----------------------------------------------------------------------------------------------------


def full(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("where", ["model", "state", "sync", "rename"])
def test_no_space_leaves_the_old_checkpoint(folder, monkeypatch, where, step):
    """Step 2 is a new checkpoint, step 1 the same again."""
    saved(folder, 1)
    folder.link("best", folder.find("last"))
    with monkeypatch.context() as patch:
        if where == "state":
            patch.setattr(torch, "save", full)
        elif where == "sync":
            patch.setattr(os, "fsync", full)
        elif where == "rename":
            real = Path.rename
            patch.setattr(Path, "rename", lambda self, to: full() if self.suffix == ".tmp" else real(self, to))
        with pytest.raises(OSError, match="No space left on device"):
            folder.save(step, full if where == "model" else write, {"step": -1})
    assert names(folder) == {"step-000001", "last", "best"}
    assert load_state(folder.find("last"))["step"] == load_state(folder.find("best"))["step"] == 1
    saved(folder, 2)
    assert folder.find("last").name == "step-000002"


def test_an_interruption_while_saving_leaves_the_old_checkpoint(folder):
    saved(folder, 1)

    def interrupted(path: Path) -> None:
        write(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.save(2, interrupted, {"step": 2})
    assert names(folder) == {"step-000001", "last"}


def test_torch_tells_of_a_full_disk_as_a_runtime_error(tmp_path, monkeypatch):
    def fail(*args: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"training_state\.pt: cannot be written.*disk full"):
        save_state({}, tmp_path / STATE_FILE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_disk(tmp_path):
    (tmp_path / STATE_FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left|cannot be written"):
        save_state({"x": torch.zeros(1000)}, tmp_path / STATE_FILE)


# --- bad states ------------------------------------------------------------------------------------------------------


def test_missing_state(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: holds no training_state\.pt"):
        load_state(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "bits"])
def test_damaged_state(tmp_path, damage):
    file = tmp_path / STATE_FILE
    save_state({"step": 1, "x": torch.zeros(5000)}, file)
    content = file.read_bytes()
    broken = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "text": b"not a checkpoint\n" * 20,
        "bits": b"PK\x03\x04" + content[4:200][::-1] + content[200:],
    }
    file.write_bytes(broken[damage])
    with pytest.raises(ValueError, match=r"training_state\.pt: is damaged.*older checkpoint") as caught:
        load_state(tmp_path)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


class Evil:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["torch", "plain"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, how):
    content = {"step": 1, "optimizer": Evil(tmp_path / "pwned")}
    if how == "torch":
        torch.save(content, tmp_path / STATE_FILE)
    else:
        (tmp_path / STATE_FILE).write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ValueError, match=r"training_state\.pt: is damaged") as caught:
        load_state(tmp_path)
    assert not (tmp_path / "pwned").exists()
    assert "weights_only=False" not in str(caught.value)
    assert "set to `False`" not in str(caught.value)
    # That the pickle would have run is what makes this a test.
    torch.load(tmp_path / STATE_FILE, weights_only=False) if how == "torch" else pickle.loads(pickle.dumps(content, 2))
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.zeros(2)}])
def test_a_file_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match=r"training_state\.pt: holds no state of a training run"):
        load_state(tmp_path)


def test_generators_are_put_back(tmp_path):
    save_state({"step": 0, "rng": rng_state()}, tmp_path / STATE_FILE)
    drawn = torch.rand(5)
    torch.manual_seed(99)
    set_rng_state(load_state(tmp_path)["rng"])
    assert torch.equal(torch.rand(5), drawn)
