"""What every test shares: no network, a fixed seed, and reasons to skip.

`SHARED` is a folder beside the checkout with reference data; a test that reads it is marked `@needs_shared`.
"""

import os

# Before anything imports torch or transformers: small tests are quicker and repeatable on one thread, and nothing may
# ask a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import ipaddress
import random
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SEED = 7

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the reference data in {SHARED}")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a JVM (`java`) on the PATH")


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test when it looks up or connects to anything but this machine, even if its code swallows the error."""
    asked: list[str] = []
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    real_getaddrinfo = socket.getaddrinfo

    def refuse(host: str) -> None:
        if not _is_local(host):
            asked.append(host)
            raise OSError(f"tests never use the network, and this one asked for {host}")

    def connect(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return real_connect(self, address)

    def connect_ex(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return real_connect_ex(self, address)

    def getaddrinfo(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name != socket.gethostname():
            refuse(name)
        return real_getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    if asked:
        pytest.fail(f"this test reached for the network: {', '.join(sorted(set(asked)))}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every generator that is loaded; torch and numpy are left alone by tests that never import them."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)
