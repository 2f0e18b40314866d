"""Archives of strangers: what is refused, quickly, and before a byte of it is kept."""

import gzip
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

import finetune
from serving import archives
from serving.archives import pack, unpack
from serving.sharing import import_archive
from tests.conftest import SHARED, needs_shared


def raw_archive(path: Path, *blocks: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(blocks) + b"\0" * 1024))
    return path


def header(name: str, size: int = 0, **fields: Any) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(**records: str) -> bytes:
    """An extended header for the next member."""
    text = b""
    for key, value in records.items():
        line = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(line) + 2
        while len(str(length)) + len(line) != length:
            length = len(str(length)) + len(line)
        text += str(length).encode() + line
    return header("x", len(text), type=tarfile.XHDTYPE) + text.ljust(-(-len(text) // 512) * 512, b"\0")


def file(name: str, content: bytes = b"x", **fields: Any) -> bytes:
    return header(name, len(content), **fields) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def refused(path: Path, message: str) -> None:
    out = path.parent / "out"
    started = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        import_archive(str(path), str(out / "model"))
    assert time.monotonic() - started < 5
    assert path.name in str(caught.value)
    assert list(out.iterdir()) == []


# --- sizes -----------------------------------------------------------------------------------------------------------


@needs_shared
def test_the_case_of_a_terabyte_of_holes(tmp_path: Path):
    archive = tmp_path / "sparse_1TB.tar.gz"
    archive.write_bytes((SHARED / "cases" / "misc" / "sparse_1TB.tar.gz").read_bytes())
    refused(archive, "'m/model.safetensors' is sparse")


@pytest.mark.parametrize(
    "records",
    [
        {"GNU_sparse_map": "0,1", "GNU_sparse_size": str(2**40)},
        {"GNU_sparse_major": "1", "GNU_sparse_minor": "0", "GNU_sparse_realsize": str(2**40)},
    ],
)
def test_holes_in_other_forms(tmp_path: Path, records: dict[str, str]):
    refused(raw_archive(tmp_path / "a.tar.gz", pax(**records), file("m/a")), r"sparse|cannot be unpacked")


def test_more_than_an_archive_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = raw_archive(tmp_path / "a.tar.gz", file("m/a", bytes(2**22)))
    monkeypatch.setattr(archives, "SMALL", 2**20)
    refused(archive, "it holds more than 1 MB")
    monkeypatch.setattr(archives, "MOST_BYTES", 2**19)
    refused(archive, "it holds more than 0 MB")


def test_a_member_that_is_skipped_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "SMALL", 2**20)
    names = header("m/b", 2**41) + bytes(2**22)
    refused(raw_archive(tmp_path / "a.tar.gz", file("m/a"), names), "more than 1 MB|cut off")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_gigabytes(tmp_path: Path, kind: bytes):
    refused(raw_archive(tmp_path / "a.tar.gz", header("x", 2**32, type=kind), bytes(2**20)), "header")


def test_more_files_than_a_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    refused(raw_archive(tmp_path / "a.tar.gz", *(file(f"m/{n}") for n in range(5))), "more than 3 files")


def test_headers_upon_headers(tmp_path: Path):
    refused(raw_archive(tmp_path / "a.tar.gz", *[pax(comment="a")] * 3000, file("m/a")), "a header is damaged")


# --- names and times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("m/a\x1b[2Jb", "m/a\nb", "m/a\x00b", "m/\u202egpj.exe", "m/-rf", "m/ a", "m/a\\b", "m/C:a", "m/..", "m/."),
        *("m//a", "./m/a", "m/" + "x" * 300, "\x07/a", "m/a\t"),
    ],
)
def test_names_that_no_export_gives(tmp_path: Path, name: str):
    refused(raw_archive(tmp_path / "a.tar.gz", pax(path=name), file("m/a")), r"refused: (?!has no)|cannot be unpacked")


@pytest.mark.parametrize("second", ["m/a", "m/A"])
def test_a_name_that_comes_twice(tmp_path: Path, second: str):
    refused(raw_archive(tmp_path / "a.tar.gz", file("m/a", b"good"), file(second, b"evil")), "twice")


@pytest.mark.parametrize("time", ["nan", "inf", "-1e300", "1e300", "99999999999999999999"])
def test_times_are_not_asked(tmp_path: Path, time: str):
    archive = raw_archive(tmp_path / "a.tar.gz", pax(mtime=time, atime=time, ctime=time), file("m/a", b"content"))
    (tmp_path / "out").mkdir()
    found = unpack(archive, tmp_path / "out")
    assert (found / "a").read_bytes() == b"content"
    assert abs((found / "a").stat().st_mtime - __import__("time").time()) < 60


def test_modes_are_not_asked(tmp_path: Path):
    archive = raw_archive(tmp_path / "a.tar.gz", file("m/a", mode=0o6777))
    (tmp_path / "out").mkdir()
    assert (unpack(archive, tmp_path / "out") / "a").stat().st_mode & 0o7111 == 0


# --- content ---------------------------------------------------------------------------------------------------------


def sums(**files: bytes) -> bytes:
    import hashlib

    return json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in files.items()}).encode()


def test_an_archive_without_weights(tmp_path: Path):
    blocks = [file("m/config.json", b"{}"), file("m/checksums.json", sums(**{"config.json": b"{}"}))]
    refused(raw_archive(tmp_path / "a.tar.gz", *blocks), r"a.tar.gz: refused: it has no model.safetensors")


@pytest.mark.parametrize("content", [b"[]", b"{", b"[" * 5000, b'{"a": 1}', b'{"a": "0", "a": "1"}', b"\xff"])
def test_checksums_that_are_none(tmp_path: Path, content: bytes):
    archive = raw_archive(tmp_path / "a.tar.gz", file("m/a"), file("m/checksums.json", content))
    with pytest.raises(ValueError, match=r"checksums.json"):
        import_archive(str(archive), str(tmp_path / "out"))


@pytest.mark.parametrize("where", [0, 5, 100, -20])
def test_damage_anywhere(tmp_path: Path, where: int):
    content = bytearray(raw_archive(tmp_path / "a.tar.gz", file("m/a", bytes(range(256)) * 8)).read_bytes())
    content[where] ^= 0x55
    (tmp_path / "a.tar.gz").write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a.tar.gz|m/a|checksums"):
        import_archive(str(tmp_path / "a.tar.gz"), str(tmp_path / "out"))


def test_what_is_packed_is_unpacked(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(bytes(2**20))  # which shrinks a thousandfold
    (tmp_path / "m" / "style map.json").write_bytes(b"{}")
    pack(tmp_path / "m", tmp_path / "a.tar.gz", "name")
    (tmp_path / "out").mkdir()
    found = unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert found.name == "name"
    assert {one.name: one.read_bytes() for one in found.iterdir()} == {
        one.name: one.read_bytes() for one in (tmp_path / "m").iterdir()
    }


def test_the_command_says_it_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    archive = raw_archive(tmp_path / "a.tar.gz", pax(path="m/a\x1b[2J"), file("m/a"))
    assert finetune.main(["import", str(archive), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
