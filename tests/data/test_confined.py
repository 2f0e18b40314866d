"""Work in a process of its own, of which nothing is left."""

import signal

import pytest

from data.confined import confined


def upper(given: bytes) -> bytes:
    return given.upper()


def endless(given: bytes) -> bytes:
    while True:
        pass


def huge(given: bytes) -> bytes:
    return bytes(2**34)


def wrong(given: bytes) -> bytes:
    raise ValueError(f"wrong: {given.decode()}")


def crash(given: bytes) -> bytes:
    signal.raise_signal(signal.SIGSEGV)
    return b""


def test_its_result_comes_back():
    given = b"abc" * 10**6
    assert confined(upper, given, seconds=60, megabytes=512) == given.upper()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (endless, r"it takes more than 0.5 seconds"),
        (huge, r"it takes more than 256 MB of memory"),
        (wrong, r"^wrong: é$"),
        (crash, r"ended with code -11"),
    ],
)
def test_what_goes_wrong_is_an_error(work, message: str):
    with pytest.raises(ValueError, match=message):
        confined(work, "é".encode(), seconds=0.5 if work is endless else 60, megabytes=256)
