"""Typed settings from layered JSON: dataclass fields with meanings and limits, checked values, nearest-name errors.

Knows nothing about any particular setting; `config.py` declares those. Imports the standard library only.
"""

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar


def opt(default: Any, meaning: str, *, flag: str | None = None, flat: str | None = None, **limits: float) -> Any:
    """Declares a field: its default, meaning and limits (`low`, `high` inclusive; `above`, `below` exclusive).

    `flag` is its command-line flag, `flat` its name in older, unsectioned files.
    """
    metadata = {"meaning": meaning, "flag": flag, "flat": flat, "limits": limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A value as it was given: `where` names its source in messages, a higher `layer` overrides a lower one."""

    value: Any
    where: str
    layer: int
    name: str  # as it was written, which may be a flat key


@dataclasses.dataclass(frozen=True)
class Key:
    """One setting: dotted name, type, default and the rest of its declaration."""

    name: str
    kind: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def leaf(self) -> str:
        """The name without its section."""
        return self.name.rpartition(".")[2]

    @property
    def is_object(self) -> bool:
        """Whether the value is a free-form JSON object."""
        return typing.get_origin(self.kind) is dict

    @property
    def limits(self) -> str:
        """The limits in words, such as ">= 0 and < 1"."""
        signs = {"low": ">=", "above": ">", "high": "<=", "below": "<"}
        limits = self.metadata["limits"]
        return " and ".join(f"{sign} {limits[name]:g}" for name, sign in signs.items() if name in limits)

    def check(self, value: Any, where: str) -> Any:
        """A JSON value in the field's Python type. ValueError when its type or its range is wrong."""
        if not matches(self.kind, value):
            remedy = self._remedy(value)
            raise ValueError(
                f"{where}: {self.name} = {json.dumps(value)} must be {describe(self.kind)}" + (remedy and f"; {remedy}")
            )
        limits = {"low": -math.inf, "above": -math.inf, "high": math.inf, "below": math.inf} | self.metadata["limits"]
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not (
                limits["low"] <= number <= limits["high"] and limits["above"] < number < limits["below"]
            ):
                raise ValueError(f"{where}: {self.name} = {json.dumps(value)} must be {self.limits}")
        if typing.get_origin(self.kind) is tuple:
            if typing.get_args(self.kind)[-1] is ...:
                return tuple(value)
            return tuple(float(number) for number in value)
        return float(value) if self.kind is float else value

    def _remedy(self, value: Any) -> str:
        if not isinstance(value, str):
            return ""
        unquoted = json_or_text(value)
        if unquoted != value and matches(self.kind, unquoted):
            return f"write {value} without quotes"
        words = [arg for kind in (self.kind, *typing.get_args(self.kind)) for arg in typing.get_args(kind)]
        folded = {word.casefold(): word for word in words if isinstance(word, str)}
        close = difflib.get_close_matches(value.casefold(), folded, 1)
        return f'did you mean "{folded[close[0]]}"?' if close else ""

    def from_text(self, text: str) -> Any:
        """A command-line value: JSON, or the text as it is where the field wants a string or it is no JSON."""
        value = json_or_text(text)
        return text if value is not None and not matches(self.kind, value) and matches(self.kind, text) else value


def json_or_text(text: str) -> Any:
    """The JSON value of a text, or the text itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if _is_deep(value) else value


def describe(kind: Any) -> str:
    """A type in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(arg) for arg in args)
    if origin is Literal:
        return " or ".join(json.dumps(arg) for arg in args)
    if origin is tuple and args[-1] is ...:
        return f"list of {describe(args[0])}"
    if origin is tuple:
        return f"list of {len(args)} {describe(args[0])}s"
    if origin is dict:
        return "object"
    return {str: "string", int: "integer", float: "number", bool: "true or false", types.NoneType: "null"}[kind]


def matches(kind: Any, value: Any) -> bool:
    """Whether a JSON value is of a type. An integer is a number too, but true and NaN are not."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(matches(arg, value) for arg in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple and args[-1] is ...:
        return isinstance(value, list) and all(matches(args[0], one) for one in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(args) and all(map(matches, args, value))
    if origin is dict:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def keys_of(root: type) -> dict[str, Key]:
    """Every setting of a dataclass and of the dataclasses (sections) in it, by dotted name, as declared."""
    found: dict[str, Key] = {}

    def visit(owner: type, prefix: str) -> None:
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            name = prefix + field.name
            if dataclasses.is_dataclass(hints[field.name]):
                visit(hints[field.name], f"{name}.")
            else:
                factory = field.default_factory
                default = field.default if factory is dataclasses.MISSING else factory()
                found[name] = Key(name, hints[field.name], default, field.metadata)

    visit(root, "")
    return found


def flatten(document: Mapping[str, Any], keys: Mapping[str, Key], flat: Iterable[str], where: str) -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}. Free-form objects flatten too, so that layers merge them by key; one
    that is given whole has an entry of its own, an empty object, which says that its default is replaced.

    `flat` are further top-level names that are known. ValueError for an unknown name, with the nearest known one.
    """
    sections = dict.fromkeys(name.partition(".")[0] for name in keys if "." in name)
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in sections:
            values[name] = value
        elif not isinstance(value, dict):
            raise ValueError(f'{where}: "{name}" is a section and must be an object, not {json.dumps(value)}')
        else:
            for leaf, inner in value.items():
                full = f"{name}.{leaf}"
                if full in keys and keys[full].is_object and isinstance(inner, dict):
                    values |= {full: {}} | {f"{full}.{deep}": item for deep, item in inner.items()}
                else:
                    values[full] = inner
    known = [*sections, *keys, *flat]
    for name in values:
        if name not in known and owner_of(name, keys) is None:
            raise ValueError(f'{where}: unknown key "{name}"; {_nearest(name, known)}')
    return values


def owner_of(name: str, keys: Mapping[str, Key]) -> str | None:
    """The free-form object that a dotted name lies in, if any."""
    return next((key.name for key in keys.values() if key.is_object and name.startswith(f"{key.name}.")), None)


def build(root: type[T], keys: Mapping[str, Key], entries: Mapping[str, Entry]) -> T:
    """Checks every value and makes the dataclass with its sections; settings without an entry keep their default."""
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, entry in entries.items():
        owner = owner_of(key, keys)
        if owner:
            inner.setdefault(owner, {})[key.removeprefix(f"{owner}.")] = entry.value
        else:
            where = entry.where if entry.name == key else f"{entry.where}: {entry.name}"
            values[key] = keys[key].check(entry.value, where)
    for owner, items in inner.items():
        values[owner] = values.get(owner, keys[owner].default) | items
    made: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(root).items():
        if dataclasses.is_dataclass(kind):
            section = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
            made[name] = kind(**section)  # type: ignore[operator]
        elif name in values:
            made[name] = values[name]
    return root(**made)


def _nearest(name: str, known: list[str]) -> str:
    """The remedy for an unknown name: its leaf in another section, else a like one in its section, else anywhere."""
    section, _, leaf = name.rpartition(".")
    same = [key for key in known if key.rpartition(".")[2] == leaf]
    if same:
        return f"did you mean {' or '.join(same)}?"
    for pool in ([key for key in known if key.rpartition(".")[0] == section], known):
        leaves = {key.rpartition(".")[2]: key for key in pool}
        near = difflib.get_close_matches(leaf, leaves, 1) or [word for word in leaves if len(leaf) > 3 and leaf in word]
        if near:
            return f"did you mean {leaves[near[0]]}?"
    return "`finetune.py conf --schema` lists all keys"


_MAX_DEPTH = 50  # lists and objects within each other
_TOO_DEEP = f"lists and objects are nested more than {_MAX_DEPTH} deep; a setting is a value in a section"


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested more than `_MAX_DEPTH` deep: what walks through them recurses."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [item for items in inner for item in items]
    return bool(level)


def read_json_object(path: str) -> dict[str, Any]:
    """The object in a JSON file. FileNotFoundError, or ValueError with the line of the mistake; no key stands twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise ValueError(f'{path}: key "{key}" stands twice in one object; keep one')
            result[key] = value
        return result

    try:
        if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
            raise ValueError(f"{path} is not a regular file; name one with --conf")
        with open(path, encoding="utf-8-sig") as file:
            document = json.load(file, object_pairs_hook=unique)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(f"no configuration file {path}; name one with --conf") from None
    except RecursionError:
        raise ValueError(f"{path}: {_TOO_DEEP}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except ValueError as error:  # a key twice, or a number of thousands of digits
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: a configuration is a JSON object, {{...}}")
    if _is_deep(document):
        raise ValueError(f"{path}: {_TOO_DEEP}")
    return document
