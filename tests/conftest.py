"""What every test shares: no network, a fixed seed, and reasons to skip.

`SHARED` is a folder beside the checkout with reference data; a test that reads it is marked `@needs_shared`.
"""

import os

# Before anything imports torch or transformers: small tests are quicker and repeatable on one thread, and nothing may
# ask a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import logging
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.offline import Watch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SEED = 7

# a busy machine must not fail a property, and two runs must try the same examples
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the reference data in {SHARED}")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a JVM (`java`) on the PATH")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--goldens", metavar="DIR", help="the folder whose golden cases tests/parity runs")


@pytest.fixture(scope="session")
def network_watch() -> Iterator[Watch]:
    watch = Watch()
    watch.set_proxy(os.environ)
    yield watch
    watch.close()


@pytest.fixture(autouse=True)
def no_network(network_watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that reaches for the network, itself or in a child process, even where the error is swallowed."""
    network_watch.asked.clear()
    network_watch.guard_sockets(monkeypatch)
    yield
    if network_watch.asked:
        pytest.fail(f"this test reached for the network: {', '.join(sorted(set(network_watch.asked)))}")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command, or a fixture of several tests, sets up the project's logger; no other test hears through it."""
    logger = logging.getLogger("stylecap")
    for moment in ("before", "after"):
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        if moment == "before":
            yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every generator that is loaded; torch and numpy are left alone by tests that never import them."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)
