"""Files of a run with a JSON object a line, each with the `step` that it is of; a resumed run goes on in them."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.reading import parse_json, read_text

LOGGER = logging.getLogger("stylecap")


def add_rows(file: Path, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of this step, at once."""
    with open(file, "a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"step": step, **row}) + "\n" for row in rows)


def keep_rows(file: Path, step: int) -> None:
    """Forget the rows after this step: a resumed run goes through those updates again."""
    kept = [row for row in read_rows(file) if row["step"] <= step]
    if file.exists():
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def read_rows(file: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file, and without the last line where a killed run broke it."""
    rows: list[dict[str, Any]] = []
    if not Path(file).is_file():
        return rows
    for line in read_text(file).splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            LOGGER.warning("%s: a line is broken and left out", file)
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
