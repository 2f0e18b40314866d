"""The results of all runs in a folder as plain data, to be queried with jq or written as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.json"  # of an evaluated run, in its folder
CONF_FILE = "conf.json"  # the run's configuration, likewise


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """One object a run that has been evaluated, in the order of their folders.

    Each holds what `metrics.json` holds, `run` (the folder) and `conf` (the configuration; None where it is missing).
    Raises ValueError for a folder that does not exist and a file that is no JSON object.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is no folder: name the one that holds the runs")
    files = sorted(Path(folder).rglob(METRICS_FILE))
    return [read_run(file.parent) for file in files if not any(part.startswith(".") for part in file.parts[:-1])]


def read_run(run: Path) -> dict[str, Any]:
    """The object of one run, as `read_results` gives it."""
    conf = run / CONF_FILE
    return {"run": str(run)} | read_object(run / METRICS_FILE) | {"conf": read_object(conf) if conf.exists() else None}


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. ValueError, naming it, for what is none."""
    found = _read(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object: remove it, or make it anew")
    return found


def read_list(path: Path) -> list[Any]:
    """A JSON list from a file. ValueError, naming it, for what is none."""
    found = _read(path)
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no JSON list: remove it, or make it anew")
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it, or make it anew") from error


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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _field(value: Any) -> Any:
    if value is None:
        return ""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)
