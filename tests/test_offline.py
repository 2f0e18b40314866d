import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.offline import Watch, is_local

ASK = "import urllib.request; urllib.request.urlopen('{scheme}://captions.invalid/model', timeout=5)"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch()
    watch.guard_sockets(monkeypatch)
    yield watch
    watch.close()


def test_a_socket_of_this_process_is_refused(watch):
    with pytest.raises(OSError, match="never use the network"):
        socket.create_connection(("captions.invalid", 80))
    with pytest.raises(OSError, match="never use the network"), socket.socket() as connection:
        connection.connect(("192.0.2.1", 80))
    assert watch.asked == ["captions.invalid", "192.0.2.1"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_child_process_is_refused(watch, scheme):
    environ = dict(os.environ)
    watch.set_proxy(environ)
    child = subprocess.run([sys.executable, "-c", ASK.format(scheme=scheme)], env=environ, capture_output=True)
    assert child.returncode != 0
    assert len(watch.asked) == 1
    assert "captions.invalid" in watch.asked[0]


def test_this_machine_may_be_asked(watch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    assert watch.asked == []


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("0.0.0.0", True), ("192.168.0.1", False), ("localhost.example.org", False)],
)
def test_what_is_this_machine(host, local):
    assert is_local(host) is local
