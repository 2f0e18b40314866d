"""Where weights come from: a local path, or a hub id, the one thing that is ever looked up over the network."""

import re
from pathlib import Path

_WEIGHT_SUFFIXES = (".pt", ".pth", ".th", ".bin", ".pkl", ".safetensors")


def resolve_source(name: str | Path, revision: str | None = None) -> Path:
    """The local path of weights that are named by a path or by a ModelScope hub id such as `damo/ofa_pretrain_base_en`.

    Only a hub id is ever looked up over the network: `owner/name` where neither that path nor the folder `owner`
    exists here.

    Raises:
        ValueError: there is no such path, or the download failed.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    text = str(name)
    owner = Path(text.partition("/")[0])
    is_id = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) and path.suffix not in _WEIGHT_SUFFIXES and not owner.exists()
    if not is_id:
        raise ValueError(
            f"{text} does not exist: name a directory with config.json and weights, a fairseq .pt file, or a hub id "
            "such as damo/ofa_pretrain_base_en"
        )
    from modelscope.hub.snapshot_download import snapshot_download  # slow to import, and most runs are local

    try:
        return Path(snapshot_download(text, revision=revision))
    except Exception as error:  # of HTTP, of the hub and of the file system: the user needs the same sentence
        wanted = f"{text} (revision {revision})" if revision else text
        raise ValueError(
            f"{wanted} is no local path, and could not be downloaded from ModelScope's hub: "
            f"{type(error).__name__}: {error}; check the name and the connection, or name a local directory"
        ) from error
