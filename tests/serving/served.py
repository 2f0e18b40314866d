"""A server of nano models on this machine, and a client that speaks HTTP to it."""

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serving.serve import make_server
from serving.web import Server

SECONDS = 30


@contextlib.contextmanager
def serving(*folders: Path, **settings: Any) -> Iterator[Server]:
    server = make_server([str(folder) for folder in folders], device="cpu", **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.api.close()
        thread.join(SECONDS)


def data_url(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def ask(
    server: Server, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, method: str | None = None
) -> tuple[int, Any]:
    """Status and content (JSON, or a text); `body` is sent as JSON, bytes as they are."""
    return post(server.server_address[1], path, body, headers=headers, method=method)


def post(
    port: int, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, method: str | None = None
) -> tuple[int, Any]:
    """As `ask`, of whatever listens there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body)
    sent = {"Content-Type": "application/json"} | dict(headers or {})
    connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
    with contextlib.closing(connection):
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if answer.headers.get_content_type() == "application/json" else text
