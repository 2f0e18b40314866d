"""HTTP/1.1 around `serving.api`: a thread a connection, limits on everything that a client sends.

The standard library's server: nothing to install, and nothing that phones anywhere.
"""

import hmac
import ipaddress
import logging
import select
import socket
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from serving.api import Api, Request, Response, refusal

LOGGER = logging.getLogger("stylecap")
MAX_BODY = 30 * 2**20
_MOST_CONNECTIONS = 1000
_IDLE_S = 60
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Serves an `Api` on `host`:`port` (0: any that is free) until `shutdown`.

    `within`: addresses of sites that may show the page within theirs, and whose proxies hand requests on: the server is
    then everybody's, and whose page asks is not looked at.
    """

    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def __init__(self, api: Api, host: str = "127.0.0.1", port: int = 7860, within: Sequence[str] = ()) -> None:
        self.api, self.within = api, tuple(within)
        self.only_here = is_loopback(host)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ValueError(
                f"cannot serve on {host}:{port} ({error.strerror}): give another --port or --host"
            ) from None

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or says nothing for too long, is no fault of ours."""
        error = sys.exception()
        level = logging.DEBUG if isinstance(error, ConnectionError | TimeoutError) else logging.ERROR
        LOGGER.log(level, "a connection failed: %s", error, exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "stylecap", ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:  # how some proxies look whether a server lives
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        response = self._refused() or self._of_api()
        if not self._gone():
            self._send(response)

    def _of_api(self) -> Response:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urllib.parse.urlsplit(self.path).path
        method = "GET" if self.command == "HEAD" else self.command
        return self.server.api.answer(Request(method, path, headers, body, self._gone))

    def _refused(self) -> Response | None:
        """Why a request is not even read."""
        length = self.headers.get("Content-Length", "0")
        refused = None
        if self.server.only_here and not is_loopback(_host(self.headers.get("Host", ""))):
            # Another name that leads here: a page from elsewhere may have made its own name point to this machine.
            refused = refusal(403, "this server is asked by this machine's name only: localhost or 127.0.0.1")
        elif not self.server.within and not self._same_origin():
            refused = refusal(403, "pages of other servers may not ask this one")
        elif "Transfer-Encoding" in self.headers or not length.isascii() or not length.isdigit():
            refused = refusal(411, "the body needs a Content-Length")
        elif int(length) > MAX_BODY:
            refused = refusal(413, f"the request is larger than {MAX_BODY >> 20} MB: send a smaller image")
        if refused is not None:
            self.close_connection = True  # its body is not read
        return refused

    def _same_origin(self) -> bool:
        origin = self.headers.get("Origin")
        if origin is None:
            return True
        return hmac.compare_digest(
            urllib.parse.urlsplit(origin).netloc.encode(), (self.headers.get("Host") or "").encode()
        )

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        fields = {"Content-Type": response.kind, "Content-Length": str(len(response.body))}
        if self.close_connection:
            fields["Connection"] = "close"
        fields |= {name: value.format(" ".join(self.server.within) or "'none'") for name, value in _SAFE.items()}
        for name, value in (fields | dict(response.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def _gone(self) -> bool:
        """Whether the client has closed its end."""
        try:
            waiting = select.poll()
            waiting.register(self.connection, select.POLLIN)
            return bool(waiting.poll(0)) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True

    def log_message(self, format: str, *args: Any) -> None:
        LOGGER.debug("%s %s", self.address_string(), format % args)


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(field: str) -> str:
    """The host of a header Host, without its port."""
    try:
        return urllib.parse.urlsplit(f"//{field}").hostname or ""
    except ValueError:
        return ""
