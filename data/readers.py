"""Readers: annotation files -> Split. Personality-Captions JSON, COCO captions JSON, Karpathy JSON, tables."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data.names import canonical_style, identifier
from data.reading import load_json, read_text
from data.samples import Row, Split
from data.table_rows import Table, message_rows, table_rows

PathLike = str | os.PathLike[str]


def read_split(
    name: str,
    *,
    format: str,
    annotations: PathLike,
    image_dir: PathLike | None,
    styles: PathLike | None = None,
    image_suffix: str = ".jpg",
    default_style: str = "Factual",
    columns: Mapping[str, str] | None = None,
    unpack_to: PathLike | None = None,
    held_out: float = 0.0,
    shared: Sequence[str] = (),
) -> Split:
    """Reads one split.

    `format` is a key of `FORMATS` or `TABLES`; `columns`, `unpack_to`, `held_out` and `shared` are of tables (see
    `table_rows.Table`), which also need no `image_dir`. `styles` is a text file with one style name a line; without it
    the style list is the names in the data, sorted. `image_suffix` completes the `image_hash` of Personality-Captions;
    `default_style` is the style of what has none. `name` also selects the records of a Karpathy file, where `restval`
    counts as train.

    A style that differs from a listed one only in case and blanks gets the listed name; one that is not in the list
    stays and is reported by the doctor, as are missing and broken images. Raises ValueError, with file, record, key and
    remedy, for a file that cannot be read, broken JSON, a record of another form, and an empty split.
    """
    if format not in FORMATS and format not in TABLES:
        raise ValueError(f"data.format is {format!r}: choose one of {', '.join([*FORMATS, *TABLES])}")
    if image_dir is None and format not in TABLES:
        raise ValueError(f"data.format {format} needs the image folder: set data.image_dir")
    if image_dir is not None and not Path(image_dir).is_dir():
        raise ValueError(f"{image_dir}: the image folder does not exist: set data.image_dir")
    source = Source(str(annotations), name, image_suffix, default_style)
    if format in TABLES:
        folder = None if image_dir is None else Path(image_dir)
        unpack = Path(unpack_to) if unpack_to is not None else Path(annotations).parent / "unpacked"
        table = Table(columns or {}, folder, unpack, default_style, held_out, shared)
        rows = list(TABLES[format](Path(annotations), name, table))
    else:
        rows = [_placed(row, str(image_dir)) for row in FORMATS[format](_read_json(source.file), source)]
    listed = tuple(sorted({row.style for row in rows})) if styles is None else read_styles(styles)
    canonical = canonical_style(listed)
    if format in _STYLELESS and styles is not None and canonical(default_style) not in listed:
        raise ValueError(f"{styles}: data.default_style {default_style!r} is not in this list: choose one that is")
    placed = (row._replace(style=canonical(row.style)) for row in rows)
    try:
        return Split(name, listed, placed)
    except ValueError as error:
        raise ValueError(f"{source.file}: {error}") from None


def read_styles(path: PathLike) -> tuple[str, ...]:
    """The style names of a text file, one a line, blank lines skipped, in file order.

    Raises ValueError for a file that cannot be read, one without names, and a name that occurs twice.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot read the style list ({_reason(error)}): set data.styles") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        style = line.strip()
        if style in seen:
            raise ValueError(f"{path}, line {number}: {style!r} stands on line {seen[style]} already: remove one")
        if style:
            seen[style] = number
    if not seen:
        raise ValueError(f"{path}: the style list is empty: write one style name a line")
    return tuple(seen)


class Source(NamedTuple):
    """What a reader needs besides the file's content."""

    file: str
    name: str
    image_suffix: str
    default_style: str


def _personality_rows(content: Any, source: Source) -> Iterator[Row]:
    """Rows of a list of `{personality, image_hash, comment, additional_comments?}`."""
    for index, record in enumerate(_expect(content, list, source.file, "a list of records")):
        where = f"record {index}"
        image_hash = _get(record, "image_hash", str, source.file, where)
        style = _get(record, "personality", str, source.file, where)
        comments = [_get(record, "comment", str, source.file, where)]
        if "additional_comments" in record:
            comments += _get(record, "additional_comments", list, source.file, where)
        for comment in comments:
            if not isinstance(comment, str):
                raise _wrong(source.file, f"{where}, key 'additional_comments'", "a list of strings", comments[1:])
            yield Row(image_hash + source.image_suffix, image_hash, style, comment)


def _coco_rows(content: Any, source: Source) -> Iterator[Row]:
    """Rows of `{images: [{id, file_name}], annotations: [{image_id, caption}]}`."""
    files: dict[str, str] = {}
    for index, record in enumerate(_get(content, "images", list, source.file, "top level")):
        where = f"images, record {index}"
        image_id = _image_id(record, "id", source.file, where)
        name = _get(record, "file_name", str, source.file, where)
        if files.setdefault(image_id, name) != name:
            raise ValueError(
                f"{source.file}: {where}: image id {image_id} means both {files[image_id]} and {name}: make ids unique"
            )
    for index, record in enumerate(_get(content, "annotations", list, source.file, "top level")):
        where = f"annotations, record {index}"
        image_id = _image_id(record, "image_id", source.file, where)
        caption = _get(record, "caption", str, source.file, where)
        if image_id not in files:
            raise ValueError(f"{source.file}: {where}, key 'image_id': {image_id} is not among 'images': add it there")
        yield Row(files[image_id], image_id, source.default_style, caption)


def _karpathy_rows(content: Any, source: Source) -> Iterator[Row]:
    """Rows of `{images: [{filename, filepath?, cocoid?, split, sentences: [{raw, sentiment?}]}]}` of the split.

    The image id is `cocoid` where there is one, as in COCO's own files, else the file name without its suffix.
    Sentences of SentiCap have a sentiment (arXiv:1510.01431), which is their style.
    """
    splits: set[str] = set()
    found = False
    for index, record in enumerate(_get(content, "images", list, source.file, "top level")):
        where = f"images, record {index}"
        split = _get(record, "split", str, source.file, where)
        splits.add(split)
        if source.name != ("train" if split == "restval" else split):
            continue
        found = True
        filename = _get(record, "filename", str, source.file, where)
        if "filepath" in record:
            filename = os.path.join(_get(record, "filepath", str, source.file, where), filename)
        named = "cocoid" in record
        image_id = _image_id(record, "cocoid", source.file, where) if named else Path(filename).stem
        for number, sentence in enumerate(_get(record, "sentences", list, source.file, where)):
            place = f"{where}, sentence {number}"
            caption = _get(sentence, "raw", str, source.file, place)
            yield Row(filename, image_id, _sentiment(sentence, source, place), caption)
    if not found:
        raise ValueError(
            f"{source.file}: no image of split {source.name!r} (the file has {', '.join(sorted(splits)) or 'none'}): "
            "ask for one of these"
        )


def _sentiment(sentence: Mapping[str, Any], source: Source, where: str) -> str:
    """SentiCap's 0 and 1 as names of styles; the default style of sentences without one."""
    found = sentence.get("sentiment")
    if found is None:
        return source.default_style
    if isinstance(found, bool) or found not in (0, 1):
        raise _wrong(source.file, f"{where}, key 'sentiment'", "0 (negative) or 1 (positive)", found)
    return _SENTIMENTS[int(found)]


# The rendered demo set is written in Personality-Captions form.
FORMATS: dict[str, Callable[[Any, Source], Iterator[Row]]] = {
    "personality": _personality_rows,
    "coco": _coco_rows,
    "karpathy": _karpathy_rows,
    "demo": _personality_rows,
}
#: Their rows name pictures by paths that are ready.
TABLES: dict[str, Callable[[Path, str, Table], Iterator[Row]]] = {"table": table_rows, "messages": message_rows}
_STYLELESS = ("coco", "karpathy")
_SENTIMENTS = ("Negative", "Positive")
_FORMS: dict[type, str] = {str: "a string", int: "an integer", list: "a list"}


def form_of(content: Any) -> Literal["personality", "coco", "karpathy"] | None:
    """The one of `FORMATS` that a file's JSON has, as far as its outermost keys and first record tell; else None."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        return "personality" if {"image_hash", "comment"} <= first.keys() else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("annotations"), list):
        return "coco"
    return "karpathy" if isinstance(content.get("images"), list) else None


def _placed(row: Row, folder: str) -> Row:
    return row._replace(image=os.path.join(folder, row.image))


def _read_json(file: str) -> Any:
    try:
        return load_json(file)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such annotation file: set data.train, data.val or data.test") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file}: broken JSON, line {error.lineno} column {error.colno} ({error.msg}): repair it"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot read the annotations ({_reason(error)}): check the file") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _expect(value: Any, kind: type | tuple[type, ...], file: str, form: str, where: str = "top level") -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(file, where, form, value)
    return value


def _get(record: Any, key: str, kind: type | tuple[type, ...], file: str, where: str) -> Any:
    """`record[key]`, checked to be of `kind`."""
    _expect(record, dict, file, "an object", where)
    if key not in record:
        raise ValueError(f"{file}: {where}: key {key!r} is missing (it has {', '.join(map(repr, record))}): add it")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    form = " or ".join(_FORMS[item] for item in kinds if item is not float)
    return _expect(record[key], kind, file, form, f"{where}, key {key!r}")


def _image_id(record: Any, key: str, file: str, where: str) -> str:
    found = identifier(_get(record, key, (int, str, float), file, where))
    if found is None:
        raise _wrong(file, f"{where}, key {key!r}", "an integer or a string", record[key])
    return found


def _wrong(file: str, where: str, form: str, value: Any) -> ValueError:
    text = json.dumps(value, ensure_ascii=False)
    shown = text if len(text) <= 60 else text[:57] + "..."
    return ValueError(f"{file}: {where}: expected {form}, found {shown}: correct the file or data.format")
