"""Records of the tables that people have: JSONL, JSON, CSV, TSV, Parquet, tars of samples, and folders of these.

A record is a mapping of column to value. A picture is a text (the name of its file), or its bytes where the table holds
it: the Image feature of `datasets` ({"bytes", "path"}), or a member of a tar in WebDataset's form, where `0001.jpg`,
`0001.txt` and `0001.json` are one record.
"""

import csv
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data.reading import load_json, open_file, parse_json, read_text

#: Names that image folders give to their table, the first that is there.
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif")
_MOST_BYTES = 2**27  # of a member of a tar
_BATCH = 256
_TEXTS = ("txt", "text", "cls", "style", "caption")


def table_files(path: Path) -> list[Path]:
    """The tables that a path means: the file; of a folder its metadata file, else all its tables of the first kind
    there are. ValueError where there is none."""
    if not path.is_dir():
        if path.suffix.lower() not in READERS:
            raise ValueError(f"{path}: a table must end in one of {', '.join(READERS)}: rename it, or save it so")
        return [path]
    for name in METADATA:
        if (path / name).is_file():
            return [path / name]
    for suffix in READERS:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix and file.is_file())
        if found:
            return found
    raise ValueError(
        f"{path}: this folder has no {METADATA[0]}, {METADATA[1]} or other table: put one beside the images"
    )


def read_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a table, each with the words that say where it stands.

    Raises ValueError, with the file and the place, for a table that is missing or damaged.
    """
    try:
        yield from READERS[file.suffix.lower()](file)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such table: set data.train, data.val or data.test") from None
    except (OSError, UnicodeDecodeError, csv.Error, tarfile.TarError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"{file}: cannot read the table ({reason}): check the file") from None


def _jsonl(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_file(file) as stream:
        for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError as error:
                raise ValueError(f"{file}: line {number}: broken JSON ({error}): repair it") from None
            if not isinstance(record, dict):
                raise ValueError(f"{file}: line {number}: expected an object: write one record a line")
            yield f"line {number}", record


def _json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = load_json(file)
    except ValueError as error:
        raise ValueError(f"{file}: broken JSON ({error}): repair it") from None
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise ValueError(f"{file}: expected a list of objects: write one object a record")
    for index, record in enumerate(content):
        yield f"record {index}", record


def _separated(separator: str) -> Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]:
    def read(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=separator, strict=True)
        names = [name.strip() for name in next(rows, [])]
        if len(set(names)) < len(names):
            raise ValueError(f"{file}: line 1: two columns have the same name: rename one")
        for row in rows:
            if any(row):
                if len(row) != len(names):
                    raise ValueError(
                        f"{file}: line {rows.line_num}: {len(row)} cells, but line 1 names {len(names)} columns: put "
                        "texts with a separator in them in quotes"
                    )
                yield f"line {rows.line_num}", dict(zip(names, row, strict=True))

    return read


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with open_file(file) as stream:
            for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(_BATCH):
                for record in batch.to_pylist():
                    yield f"row {number}", {name: _plain(value) for name, value in record.items()}
                    number += 1
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file}: damaged, or no Parquet file ({str(error).splitlines()[0]}): get it again") from None


def _plain(value: Any) -> Any:
    """An Image feature as its bytes, or as the name of its file."""
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return value["bytes"] if value["bytes"] is not None else value["path"]
    return value


def _tar(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Members in a row that have the same name up to the first dot are one record, with their ends as columns; the
    keys of a member .json are columns too."""
    key, record = "", {}  # type: str, dict[str, Any]
    with open_file(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, end = name.partition(".")
            if f"{folder}/{stem}" != key:
                if record:
                    yield f"sample {key.lstrip('/')}", record
                key, record = f"{folder}/{stem}", {}
            record |= _member(file, tar, member, end.lower())
    if record:
        yield f"sample {key.lstrip('/')}", record


def _member(file: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, end: str) -> dict[str, Any]:
    if end not in (*PICTURES, *_TEXTS, "json"):
        return {}
    if member.size > _MOST_BYTES:
        raise ValueError(f"{file}: {member.name} has more than {_MOST_BYTES >> 20} MB: leave it out")
    stream = tar.extractfile(member)
    assert stream is not None, "isfile() was asked"
    content = stream.read()
    if end in PICTURES:
        return {end: content}
    try:
        text = content.decode("utf-8-sig")
        if end != "json":
            return {end: text.strip()}
        found = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{file}: {member.name}: {error}: repair it") from None
    return found if isinstance(found, dict) else {"json": found}


READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
    ".jsonl": _jsonl,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".tar": _tar,
    ".json": _json,
}
"""End of a file's name -> its reader."""
