"""JSON files of questions, opened and checked: an error names the file, the record and the remedy."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data.reading import PathLike, parse_json, read_bytes, unpacked

_MISSING: Any = object()
_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object and where it stands."""

    content: dict[str, Any]
    file: str
    where: str

    def get(self, key: str, *kinds: type, default: Any = _MISSING) -> Any:
        """The value under `key`, checked to be of one of `kinds`; with a `default` it may be missing or null."""
        value = self.content.get(key)
        if value is None and default is not _MISSING:
            return default
        if key not in self.content:
            raise self.wrong(f"key {key!r} is missing (it has {', '.join(map(repr, self.content))})", "add it")
        if not _is(value, kinds):
            form = " or ".join(_NAMES[kind] for kind in kinds)
            raise self.wrong(f"key {key!r}: expected {form}, found {_short(value)}", "correct the file or the format")
        return value

    def records(self, key: str) -> "Iterator[Record]":
        """The list of objects under `key`."""
        return as_records(self.get(key, list), self.file, f"{self.where}, {key}" if self.where else key)

    def wrong(self, problem: str, remedy: str) -> ValueError:
        return ValueError(f"{self.file}: {self.where or 'top level'}: {problem}: {remedy}")


def read_json(path: PathLike) -> Any:
    """The content of a JSON file. Raises ValueError for one that cannot be read."""
    text = read_text(path)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{path}: broken JSON, {place} ({error.msg}): repair it, or set the format") from None
    except ValueError as error:
        raise ValueError(f"{path}: cannot read the JSON ({error}): check the file") from None


def read_object(path: PathLike) -> Record:
    """A JSON file that holds one object."""
    return as_record(read_json(path), str(path), "")


def read_list(path: PathLike) -> Iterator[Record]:
    """A JSON file that holds a list of objects."""
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of records, found {_short(content)}: set the format")
    return as_records(content, str(path), "")


def read_lines(path: PathLike) -> Iterator[Record]:
    """A file with one JSON object a line; empty lines are skipped."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                content = parse_json(line)
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise ValueError(f"{path}: line {number}: broken JSON ({reason}): repair it") from None
            yield as_record(content, str(path), f"line {number}")


def read_text(path: PathLike) -> str:
    """The text of a file, unpacked if its name ends in .gz. Raises ValueError for one that cannot be read."""
    try:
        content = read_bytes(path)
        return (unpacked(content) if str(path).endswith(".gz") else content).decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: cannot read the file ({reason}): check it") from None


def as_records(content: list[Any], file: str, where: str) -> Iterator[Record]:
    prefix = f"{where}, " if where else ""
    for index, value in enumerate(content):
        yield as_record(value, file, f"{prefix}record {index}")


def as_record(content: Any, file: str, where: str) -> Record:
    if not isinstance(content, dict):
        raise ValueError(f"{file}: {where or 'top level'}: expected an object, found {_short(content)}: set the format")
    return Record(content, file, where)


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
