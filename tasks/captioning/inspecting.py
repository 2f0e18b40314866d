"""What a table of one's own is, as `data inspect` says it, and a configuration that trains on it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import write_json
from data.readers import read_split
from data.reading import load_json
from data.samples import Split
from data.table_rows import columns_of, guessed, split_named
from data.tables import READERS, read_records, table_files

_DEFAULT = Path(__file__).parents[2] / "train_conf.json"
_SPLITS = ("train", "val", "test")
_SHOWN = 10
_EPOCHS = 20


@dataclass
class Seen:
    """A data set as it was found.

    Attributes:
        data: the section `data` of a configuration.
        splits: what each split holds.
        notes: what the user should know.
    """

    data: dict[str, Any]
    splits: dict[str, Split] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """For people."""
        lines = [f"format: {self.data['format']}"]
        lines += [f"{what}: column {name!r}" for what, name in self.data.get("columns", {}).items()]
        for name, split in self.splits.items():
            lines.append(f"{name}: {len(split)} captions of {split.n_images} images")
        styles = Counter(sample.style for split in self.splits.values() for sample in split)
        more = f" and {len(styles) - _SHOWN} more" if len(styles) > _SHOWN else ""
        lines.append("styles: " + ", ".join(f"{style} ({n})" for style, n in styles.most_common(_SHOWN)) + more)
        first = next(iter(self.splits.values()))[0]
        lines.append(f"for example: {first.image}, {first.style}: {first.caption}")
        return "\n".join(lines + self.notes)


def inspect(path: str, work_dir: str) -> Seen:
    """Look at a table, or a folder with one, or with folders or tables train, val and test.

    Pictures that a table holds are unpacked below `work_dir`, where training finds them again. Raises ValueError for
    what cannot be read, and names the columns that cannot be guessed.
    """
    places = _places(Path(path))
    first = table_files(next(iter(places.values())))[0]
    where, record = next(read_records(first), ("", None))
    if record is None:
        raise ValueError(f"{first}: the table is empty: write records into it")
    messages = "messages" in record
    columns = {} if messages else columns_of(record, {}, f"{first}: {where}")
    if len(places) == 1 and "split" not in guessed(record, {}):
        places = dict.fromkeys(("train", "val"), Path(path))
    elif len(places) == 1:
        table = next(iter(places.values()))
        names = {split_named(str(one.get(guessed(one, {})["split"]))) for _, one in _all_records(table)}
        places = {name: table for name in _SPLITS if name in names}
    data: dict[str, Any] = {"format": "messages" if messages else "table", **{k: str(v) for k, v in places.items()}}
    if columns:
        data["columns"] = columns
    seen = Seen(data)
    _read(seen, places, Path(work_dir) / "cache" / "pictures")
    return seen


def configuration(seen: Seen, work_dir: str) -> dict[str, Any]:
    """A configuration with the data as they were seen and the small model of the embedded default."""
    content = load_json(_DEFAULT)
    train = content["train"] | {"max_epochs": _EPOCHS, "checkpoint_every": "epoch"}
    train["batch_size"] = min(train["batch_size"], seen.splits["train"].n_images)
    kept = {name: value for name, value in content["data"].items() if name not in ("format", "demo_images")}
    return {
        "work_dir": work_dir,
        "model": content["model"],
        "data": seen.data | kept,
        "train": train,
        "eval": content["eval"],
    }


def run_inspect(path: str, out: str | None, work_dir: str | None) -> str:
    """What is seen, as text; with `out` the configuration is written there, where nothing may be yet."""
    if out is not None and Path(out).exists():
        raise ValueError(f"{out} exists already: name another file, or remove it yourself")
    folder = work_dir or f"work_dir/{Path(path).resolve().stem}"
    seen = inspect(path, folder)
    document = configuration(seen, folder)
    if out is None:
        return f"{seen.to_text()}\n\n{json.dumps(document, indent=2, ensure_ascii=False)}"
    write_json(Path(out), document)
    return f"{seen.to_text()}\n\n{out} is ready: finetune.py --conf {out} doctor, then train"


def _places(path: Path) -> dict[str, Path]:
    """Split -> its table or folder; "train" alone where one place has all."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: name a table, or a folder with one")
    if path.is_dir():
        found: dict[str, Path] = {}
        for entry in sorted(path.iterdir()):
            split = split_named(entry.stem)
            if split in _SPLITS and (entry.is_dir() or entry.suffix.lower() in READERS):
                found.setdefault(split, entry)
        if "train" in found:
            return {name: found[name] for name in _SPLITS if name in found}
    return {"train": path}


def _all_records(path: Path) -> Any:
    for file in table_files(path):
        yield from read_records(file)


def _read(seen: Seen, places: dict[str, Path], unpack_to: Path) -> None:
    for name, place in places.items():
        shared = [other for other, path in places.items() if path == place]
        share = 0.1 if len(shared) > 1 and "split" not in seen.data.get("columns", {}) else 0.0
        try:
            seen.splits[name] = read_split(
                name,
                format=seen.data["format"],
                annotations=place,
                image_dir=None,
                columns=seen.data.get("columns"),
                unpack_to=unpack_to,
                held_out=share,
                shared=shared,
            )
        except ValueError as error:
            if name == "train" or "split is empty" not in str(error):
                raise
            seen.data.pop(name)
            seen.notes.append(f"note: nothing is left for {name}: add images, or name a table in data.{name}")
            continue
        missing = [image for image in seen.splits[name].image_paths if not Path(image).is_file()]
        if missing:
            seen.notes.append(f"note: {len(missing)} images of {name} are not there, such as {missing[0]}")
    if "val" not in seen.data:
        seen.notes.append("note: there is no val to choose the best checkpoint by: set data.val")
