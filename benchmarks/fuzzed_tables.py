"""Readers of tables of one's own, and of what clients send to the server, for `fuzz`."""

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from data.readers import read_split

ROWS = [
    {"image": "1.jpg", "text": "a dog", "style": "Sweet"},
    {"image": "2.jpg", "text": "the cat", "style": "Sour"},
]
SAID = [{"role": "system", "content": "Sweet"}, {"role": "assistant", "content": "a dog"}]
TALK = {"messages": SAID, "images": ["1.jpg"]}


def tables(folder: Path) -> list[tuple[str, bytes, Callable[[Path], Any]]]:
    """Name, a sound file and its reader."""

    def split(form: str) -> Callable[[Path], Any]:
        unpacked = folder / "unpacked"
        return lambda path: list(read_split("train", format=form, annotations=path, image_dir=None, unpack_to=unpacked))

    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    return [
        ("table.jsonl", lines, split("table")),
        ("table.csv", b'image,text,style\n1.jpg,"a, dog",Sweet\n2.jpg,the cat,Sour\n', split("table")),
        ("talk.jsonl", json.dumps(TALK).encode(), split("messages")),
        ("table.parquet", _parquet(), split("table")),
        ("table.tar", _tar(), split("table")),
    ]


def read_picture(path: Path) -> Any:
    """A file as a client sends it; a refusal is an error that names the file, as other readers' are."""
    from serving.asked import Refused, bytes_of, picture_of

    url = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    try:
        return picture_of(bytes_of(url), 64)
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None


def _parquet() -> bytes:
    stream = io.BytesIO()
    held = [{"bytes": b"picture", "path": "1.jpg"}, {"bytes": None, "path": "2.jpg"}]
    table = pyarrow.table({"image": held, "text": ["a dog", "the cat"], "style": ["Sweet", "Sour"]})
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in (("1.jpg", b"picture"), ("1.txt", b"a dog"), ("1.json", b'{"style": "Sweet"}')):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()
