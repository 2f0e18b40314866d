"""The command `serve`: models, queue and server put together."""

import logging
from collections.abc import Mapping, Sequence

from data.reading import read_text
from serving.api import Api
from serving.systems import open_systems
from serving.web import Server, is_loopback

LOGGER = logging.getLogger("stylecap")


def run_server(
    folders: Sequence[str],
    *,
    host: str,
    port: int,
    key_file: str | None,
    device: str,
    size: int,
    limit: int,
    seconds: float,
    names: Sequence[str] | None = None,
    within: Sequence[str] = (),
    adapters: Mapping[str, str] | None = None,
) -> None:
    """Serves the models in `folders` until it is interrupted. ValueError for what cannot be served, or not there.

    `names` are the models' in place of the folders'; `within` as in `web.Server`; `adapters` as in
    `open_systems`.
    """
    server = make_server(
        folders,
        host=host,
        port=port,
        key_file=key_file,
        device=device,
        size=size,
        limit=limit,
        seconds=seconds,
        names=names,
        within=within,
        adapters=adapters,
    )
    LOGGER.info("%s: open %s in a browser; Ctrl-C ends it", ", ".join(server.api.systems), server.url)
    if not is_loopback(host) and key_file is None and not within:
        LOGGER.warning("anyone who reaches %s can ask: --api-key-file FILE asks them for a key", server.url)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        server.api.close()


def make_server(
    folders: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    key_file: str | None = None,
    device: str = "auto",
    size: int = 32,
    limit: int = 256,
    seconds: float = 60,
    names: Sequence[str] | None = None,
    within: Sequence[str] = (),
    adapters: Mapping[str, str] | None = None,
) -> Server:
    """A server that listens already; `serve_forever` answers."""
    key = None if key_file is None else _key(key_file)
    systems = open_systems(folders, names, device=device, most=size, adapters=adapters)
    api = Api(systems, size=size, limit=limit, seconds=seconds, key=key)
    try:
        return Server(api, host, port, within)
    except ValueError:
        api.close()
        raise


def _key(file: str) -> str:
    try:
        lines = read_text(file).split()
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot read the API key ({error}): write one line into it") from None
    if len(lines) != 1 or not lines[0].isascii():
        raise ValueError(f"{file}: expected one line with a key of plain letters and digits: write one into it")
    return lines[0]
