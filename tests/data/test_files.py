"""Files reach the disk before they get their name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data.files import digest_of, replacing, replacing_folder, write_json, write_text
from trainers.checkpointing import STATE_FILE, CheckpointFolder


class Disk:
    """What has been put on disk, by inode, and what was not when it was renamed."""

    def __init__(self) -> None:
        self.synced: set[int] = set()
        self.renamed: dict[str, list[str]] = {}

    def renaming(self, source: Path, target: str | os.PathLike[str]) -> None:
        if not source.is_symlink():
            inside = [source, *source.iterdir()] if source.is_dir() else [source]
            self.renamed[Path(target).name] = sorted(one.name for one in inside if one.stat().st_ino not in self.synced)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def watched_fsync(descriptor: int) -> None:
        found.synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched(call: Callable[..., Path]) -> Callable[..., Path]:
        def rename_or_replace(self: Path, target: str | os.PathLike[str]) -> Path:
            found.renaming(self, target)
            return call(self, target)

        return rename_or_replace

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched(rename))
    monkeypatch.setattr(Path, "replace", watched(replace))
    return found


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, disk: Disk):
    write_text(tmp_path / "deep" / "a.txt", "text")
    write_json(tmp_path / "b.json", {"a": 1})
    with replacing(tmp_path / "c.bin") as temporary:
        temporary.write_bytes(b"c")
    assert disk.renamed == {"a.txt": [], "b.json": [], "c.bin": []}


def test_a_folder_is_on_disk_before_it_has_its_name(tmp_path: Path, disk: Disk):
    with replacing_folder(tmp_path / "model") as folder:
        for name in ("weights", "config"):
            (folder / name).write_bytes(b"x")
    assert disk.renamed == {"model": []}


def test_a_checkpoint_is_on_disk_before_it_has_its_name(tmp_path: Path, disk: Disk):
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"weights")

    path = CheckpointFolder(tmp_path, keep=1).save(3, write, {"step": 3})
    assert sorted(one.name for one in path.iterdir()) == ["model.safetensors", STATE_FILE]
    assert disk.renamed == {"step-000003": []}


def test_the_watch_sees_what_is_not_on_disk(tmp_path: Path, disk: Disk):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a").rename(tmp_path / "b")
    assert disk.renamed == {"b": ["a", "file"]}


def test_a_digest_follows_content_and_names(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(b"1")
    first = digest_of(tmp_path / "m")
    (tmp_path / "m" / "state").write_bytes(b"2")
    assert digest_of(tmp_path / "m", without=["state"]) == first != digest_of(tmp_path / "m")
    (tmp_path / "m" / "weights").rename(tmp_path / "m" / "other")
    assert digest_of(tmp_path / "m", without=["state"]) != first
    assert digest_of(tmp_path / "m" / "other") != digest_of(tmp_path / "m" / "state")
