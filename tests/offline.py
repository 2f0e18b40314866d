"""Catch whatever reaches for the network: sockets of this process, and HTTP clients of any process that it starts."""

import ipaddress
import os
import socket
import socketserver
import threading

import pytest

_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Watch:
    """Refuses every way out of this machine and keeps, in `asked`, the hosts that were asked for.

    Sockets of this process are refused through `guard_sockets`. Child processes find, in the environment, an HTTP proxy
    that hangs up at once; it stands on this machine, so nothing leaves it.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Proxy(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                words = self.rfile.readline(1000).decode("latin-1").split()
                asked.append(words[1] if len(words) > 1 else "an unknown host, through the proxy")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def set_proxy(self, environ: os._Environ[str] | dict[str, str]) -> None:
        """Point HTTP clients that read `environ` at the proxy that refuses."""
        host, port = self._server.server_address[:2]
        for name in _PROXY_VARIABLES:
            environ[name] = environ[name.lower()] = f"http://{host!s}:{port}"
        environ["NO_PROXY"] = environ["no_proxy"] = "localhost,127.0.0.1,::1"

    def guard_sockets(self, patch: pytest.MonkeyPatch) -> None:
        """Make look-ups and connections beyond this machine an `OSError`, until `patch` is undone."""
        real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
        real_getaddrinfo = socket.getaddrinfo

        def connect(self: socket.socket, address):
            return real_connect(self, checked(self, address))

        def connect_ex(self: socket.socket, address):
            return real_connect_ex(self, checked(self, address))

        def checked(connection: socket.socket, address):
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                self._refuse(address[0])
            return address

        def getaddrinfo(host, *args, **kwargs):
            self._refuse(host.decode() if isinstance(host, bytes) else host or "")
            return real_getaddrinfo(host, *args, **kwargs)

        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _refuse(self, host: str) -> None:
        if not is_local(host):
            self.asked.append(host)
            raise OSError(f"tests never use the network, and this one asked for {host}")


def is_local(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine."""
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
