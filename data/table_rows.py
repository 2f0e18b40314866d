"""From records of a table to rows of a split: which column is what, and where pictures lie."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from data.names import identifier
from data.samples import Row
from data.tables import PICTURES, read_records, table_files

#: What a column is for -> names that it goes by, the likeliest first.
KNOWN_AS: dict[str, tuple[str, ...]] = {
    "image": (
        "image",
        "file_name",
        "image_path",
        "image_file",
        "filename",
        "filepath",
        "path",
        "file",
        "img",
        *PICTURES,
    ),
    "caption": ("caption", "captions", "text", "txt", "comment", "sentence", "sentences", "description", "answer"),
    "style": ("style", "personality", "tone", "persona", "emotion"),
    "split": ("split", "partition", "subset"),
    "id": ("image_id", "image_hash"),  # a column "id" mostly counts records
}
_NEEDED = ("image", "caption")
_SPLITS = {"train": "train", "restval": "train", "training": "train", "test": "test", "testing": "test"}
_VALIDATION = ("val", "valid", "validation", "dev", "eval")


class Table(NamedTuple):
    """How a table is read.

    Attributes:
        columns: what -> the column's name; others are guessed.
        image_dir: folder of pictures that are named; None: that of the table.
        unpack_to: folder for pictures that the table holds.
        default_style: of records without one.
        held_out: share of the images that each later split of `shared` gets, by their names, where all splits are in
            one table without a column that says which.
        shared: the splits that this table is for, the first of which gets the rest.
    """

    columns: Mapping[str, str]
    image_dir: Path | None
    unpack_to: Path
    default_style: str
    held_out: float = 0.0
    shared: Sequence[str] = ()


def table_rows(path: Path, split: str, table: Table) -> Iterator[Row]:
    """The rows of a split of tables with a column for each thing. `image` is a path that is ready to be opened.

    A caption may be a list of captions. Raises ValueError, with file, place and column, for what cannot be read.
    """
    for file in table_files(path):
        columns: dict[str, str] = {}
        for where, record in read_records(file):
            if any(key not in record for key in columns.values()) or not columns:
                columns = columns_of(record, table.columns, f"{file}: {where}")
            if not _belongs(record, columns, split, table, f"{file}: {where}"):
                continue
            image, image_id = _picture(record[columns["image"]], file, table, f"{file}: {where}")
            named = identifier(record[columns["id"]]) if "id" in columns else None
            style = str(record.get(columns.get("style", ""), "") or "").strip() or table.default_style
            for caption in _captions(record[columns["caption"]], f"{file}: {where}, column {columns['caption']!r}"):
                yield Row(image, named or image_id, style, caption)


def message_rows(path: Path, split: str, table: Table) -> Iterator[Row]:
    """The rows of a split of conversations: `{"messages": [{"role", "content"}], "images": [picture]}` each.

    The caption is what the assistant says last. The style is that of the record's column, else the text of the system
    message, else the default.
    """
    for file in table_files(path):
        for where, record in read_records(file):
            place = f"{file}: {where}"
            columns = {name: key for name, key in guessed(record, table.columns).items() if name in ("style", "split")}
            if not _belongs(record, columns, split, table, place):
                continue
            said = _said(record.get("messages"), place)
            images = record.get("images", record.get("image"))
            images = images if isinstance(images, list) else [images]
            if len(images) != 1:
                raise ValueError(f"{place}: {len(images)} images: a caption is of one: leave the record out")
            first = images[0]
            held = isinstance(first, dict) and (first.get("bytes") or first.get("path"))
            image, image_id = _picture(held or first, file, table, place)
            style = str(record.get(columns.get("style", ""), "") or said.get("system", "")).strip()
            if not said.get("assistant", "").strip():
                raise ValueError(f"{place}: no message of the role assistant: it holds the caption: add it")
            yield Row(image, image_id, style or table.default_style, said["assistant"].strip())


def guessed(record: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """What -> the column of `record` that is it: the one given, else the first that goes by a known name."""
    lower = {str(name).lower(): str(name) for name in reversed(list(record))}
    found = {what: next((lower[name] for name in names if name in lower), None) for what, names in KNOWN_AS.items()}
    return {what: name for what, name in found.items() if name is not None} | dict(given)


def columns_of(record: Mapping[str, Any], given: Mapping[str, str], where: str) -> dict[str, str]:
    """As `guessed`. ValueError for a column that is not there, and where image or caption is not found."""
    for what, name in given.items():
        if what not in KNOWN_AS:
            raise ValueError(f"data.columns has {what!r}: choose among {', '.join(KNOWN_AS)}")
        if name not in record:
            near = get_close_matches(str(name), list(map(str, record)), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, record))}"
            raise ValueError(f"{where}: no column {name!r} (data.columns.{what}): {hint}")
    found = guessed(record, given)
    for what in _NEEDED:
        if what not in found:
            has = ", ".join(map(repr, record)) or "none"
            raise ValueError(
                f"{where}: no column is known as the {what} (it has {has}): name it in data.columns.{what}"
            )
    return found


def split_named(text: str) -> str:
    """train, val or test for whatever a table calls them; other names as they are."""
    name = text.strip().lower()
    return "val" if name in _VALIDATION else _SPLITS.get(name, name)


def _belongs(record: Mapping[str, Any], columns: Mapping[str, str], split: str, table: Table, where: str) -> bool:
    if "split" in columns:
        return split_named(str(record[columns["split"]])) == split
    if not table.held_out or split not in table.shared:
        return True
    value = record.get(columns.get("image", "images"))
    if value is None:
        raise ValueError(f"{where}: no image: name it, or leave the record out")
    return _drawn(value, table) == split


def _drawn(image: Any, table: Table) -> str:
    """The split of an image, by a digest of its name or bytes: one for all its captions, whatever their order."""
    content = image if isinstance(image, bytes) else repr(image).encode("utf-8", "surrogatepass")
    share = int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
    place = int(share / table.held_out) + 1
    return table.shared[place] if place < len(table.shared) else table.shared[0]


def _picture(value: Any, file: Path, table: Table, where: str) -> tuple[str, str]:
    """Path and id of a picture; one that the table holds is written into a file first, once."""
    if isinstance(value, bytes) and value:
        name = hashlib.sha256(value).hexdigest()[:32]
        return _unpacked(value, table.unpack_to / name[:2] / name), name
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: no image: name its file, or leave the record out")
    folder = table.image_dir if table.image_dir is not None else file.parent
    return os.path.join(folder, value), value


def _unpacked(content: bytes, path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several ranks may unpack the same picture: it appears whole.
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
            stream.write(content)
        os.replace(stream.name, path)
    return str(path)


def _captions(value: Any, where: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: expected a text, or a list of texts: correct it, or data.columns.caption")
    return [str(text) for text in texts]


def _said(messages: Any, where: str) -> dict[str, str]:
    """Role -> the last text of it."""
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{where}: messages must be a list that is not empty: add them, or choose another data.format")
    said: dict[str, str] = {}
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            content = " ".join(text for text in texts if isinstance(text, str))
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise ValueError(f"{where}: a message needs the texts role and content: correct it")
        said[message["role"]] = content
    return said
