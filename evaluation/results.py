"""The results of all runs in a folder as plain data, to be queried with jq or written as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.files import flatten, read_object
from data.run_folder import RunFolder


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """One object a run that has been evaluated, in the order of their folders.

    Each holds what `metrics.json` holds, `run` (the folder) and `conf` (the configuration; None where it is missing).
    Raises ValueError for a folder that does not exist and a file that is no JSON object.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is no folder: name the one that holds the runs")
    files = sorted(Path(folder).rglob(RunFolder("").metrics.name))
    return [read_run(file.parent) for file in files if not any(part.startswith(".") for part in file.parts[:-1])]


def read_run(run: Path) -> dict[str, Any]:
    """The object of one run, as `read_results` gives it."""
    files = RunFolder(run)
    conf = read_object(files.conf) if files.conf.exists() else None
    return {"run": str(run)} | read_object(files.metrics) | {"conf": conf}


def to_lines(values: Iterable[Any]) -> str:
    """One line a value: a string as it is, anything else as JSON."""
    return "\n".join(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values)


def to_csv(values: Sequence[Any]) -> str:
    """A table with a row for each value; objects in objects become columns like `per_style.Sweet.CIDEr`.

    A list of rows is as good as rows. Columns are the names of all rows in the order of their first appearance; what a
    row lacks, and null, is an empty field; lists are JSON. Raises ValueError for a row that is no object.
    """
    rows = [row for value in values for row in (value if isinstance(value, list) else [value])]
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"--csv wants objects, one a row, and not {json.dumps(row)}: select with {{run, CIDEr}}")
    flat = [flatten(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(row.get(name)) for name in columns] for row in flat)
    return text.getvalue().rstrip("\n")


def _field(value: Any) -> Any:
    if value is None:
        return ""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)
