"""A part of `benchmarks.fuzz`, which has thousands of cases for each reader: here some for each, in a few seconds."""

import logging
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzz import Reader, broken, fault_of, fuzz
from benchmarks.fuzzed import readers

CASES = 25


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in readers(tmp_path_factory.mktemp("beside"))}


@pytest.mark.parametrize("part", range(4))
def test_no_reader_fails_but_by_an_error_that_names_the_file(
    part: int, all_readers: dict[str, Reader], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.ERROR)
    found = [reader for number, reader in enumerate(all_readers.values()) if number % 4 == part]
    failures = [one for reader in found for one in fuzz(reader, 2 if reader.slow else CASES, 0, tmp_path)]
    assert [(one.reader, one.what) for one in failures] == []


def test_every_kind_of_failure_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.fuzz.SECONDS", 0.2)

    def hang(path: Path) -> None:
        while True:
            pass

    def wrong(error: Exception) -> Any:
        def read(path: Path) -> None:
            raise error

        return read

    path = tmp_path / "a.json"
    path.write_text("[1]")
    for read, message in (
        (hang, "more than 0.2 seconds"),
        (wrong(KeyError("a")), "KeyError"),
        (wrong(RecursionError("deep")), "RecursionError"),
        (wrong(MemoryError()), "MemoryError"),
        (wrong(ValueError("it is wrong")), "does not name the file"),
        (wrong(ValueError("a.json is wrong")), None),
    ):
        found = fault_of(Reader("a.json", (b"[1]",), read), path, sound=False)
        assert (found is None) if message is None else (message in str(found))
    sound = fault_of(Reader("a.json", (b"[1]",), wrong(ValueError("a.json is wrong"))), path, sound=True)
    assert "a sound file is refused" in str(sound)


def test_breaking_is_varied_and_repeatable():
    import random

    content = b'{"a": [1, {"b": "text"}], "c": null}'
    first = [broken(content, random.Random(seed)) for seed in range(200)]
    assert first == [broken(content, random.Random(seed)) for seed in range(200)]
    assert len(set(first)) > 150
    assert min(map(len, first)) < 5
    assert max(map(len, first)) > 1000
