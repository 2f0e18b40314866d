"""Pickles of document frequencies that ask for more than they hold."""

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from rewards.document_frequency import read_table
from rewards.plain_pickle import plain, vetted
from tests.conftest import SHARED, needs_shared


def bomb_of_tuples(depth: int) -> bytes:
    """A key of `depth` pairs, each of the same one twice: small, but to be hashed 2 ** depth times."""
    pair = b"\x8c\x01a\x94" + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(depth))
    return b"\x80\x04" + pair + b"}(h" + bytes([depth]) + b"K\x01u."


HOSTILE: dict[str, bytes] = {
    "a memo of gigabytes": b"\x80\x02Nr\x00\x00\x00\x10.",
    "a memo of more gigabytes": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a string of gigabytes": b"\x80\x04\x8d" + (2**34).to_bytes(8, "little") + b"a.",
    "a number of gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "a frame of gigabytes": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.",
    "lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a key that takes ages": bomb_of_tuples(60),
    "a call": b"cbuiltins\nint\n(S'7'\n\x85R.",
    "a call for memory": b"cbuiltins\ntuple\n(cbuiltins\nstr\nS'a'\n\x85R\x85R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_soon(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rewards.document_frequency._SECONDS", 3)
    path = tmp_path / "words.p"
    path.write_bytes(HOSTILE[name])
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"words\.p is not a table of document frequencies: \S") as caught:
        read_table(path)
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)


@needs_shared
def test_the_case_of_four_gigabytes():
    with pytest.raises(ValueError, match=r"memo_4GB.pkl is not a table .*more than 512 MB of memory"):
        read_table(SHARED / "cases" / "misc" / "memo_4GB.pkl")


@pytest.mark.parametrize(
    "counts",
    [
        {("a",): 1e300},
        {("a",): 10**30},
        {("a",): True},
        {("a" * 2000,): 1.0},
        {("a",) * 2000: 1.0},
        {(("a",),): 1.0},
        {"a": 1.0},
        {("a",): -1.0},
        {("a",): float("inf")},
    ],
)
def test_numbers_and_words_that_no_corpus_has(counts: dict[Any, Any]):
    with pytest.raises(ValueError, match="must count tuples of words, as numbers"):
        vetted(pickle.dumps({"ref_len": 3, "document_frequency": counts}))


def test_what_is_vetted_is_the_table():
    table = {
        "ref_len": 3,
        "document_frequency": {("a", "é"): 2, ("\ud800",): 1.5},
        "fingerprint": "x" * 64,
        "more": [1],
    }
    assert plain(vetted(pickle.dumps(table))) == (3.0, table["document_frequency"], "x" * 64)
