"""Flat keys of older configuration files, translated to sectioned settings."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from conf.typed import Entry

FOLDER = "dataset_path"
"""Flat key of the folder that holds the files of train_json, val_json and test_json, and personalities.txt."""
Size = Literal["tiny", "medium", "base", "large", "huge"]
"""The sizes in which OFA was published."""


def _hub_id(name: str) -> str:
    """An older file's model_name as a checkpoint: a size or a bare hub name means DAMO's English OFA on the hub."""
    if name in get_args(Size) and not os.path.exists(name):
        return f"damo/ofa_pretrain_{name}_en"
    return f"damo/{name}" if name.startswith("ofa_") and "/" not in name and not os.path.exists(name) else name


def translate(entries: Iterable[Entry], names: Mapping[str, str]) -> list[tuple[str, Entry]]:
    """(key, entry) of every entry, flat keys of older files rewritten to the settings of today.

    `names` maps flat keys to settings. ValueError for a folder without files to look for in it.
    """
    entries = list(entries)
    result = [(entry.name, entry) for entry in entries if entry.name not in names and entry.name != FOLDER]
    flat = {entry.name: entry for entry in entries if entry.name in names}
    folder = next((entry for entry in reversed(entries) if entry.name == FOLDER), None)
    if folder:
        if not isinstance(folder.value, str):
            raise ValueError(f"{folder.where}: {FOLDER} = {json.dumps(folder.value)} must be string")
        if not any(name.endswith("_json") for name in flat):
            raise ValueError(f"{folder.where}: {FOLDER} is the folder of train_json, val_json, test_json; name these")
        styles = os.path.join(folder.value, "personalities.txt")
        if os.path.isfile(styles) and "data.styles" not in dict(result):
            result.append(("data.styles", dataclasses.replace(folder, value=styles)))
    for name, entry in flat.items():
        value = entry.value
        if name in ("prompt", "model_revision") and not value:
            continue  # older files write "" or null for "the default"
        if isinstance(value, str) and value:
            if name == "model_name":
                value = _hub_id(value)
            elif name == "file_attr" and not value.startswith("."):
                value = f".{value}"
            elif name.endswith("_json") and folder:
                entry = dataclasses.replace(entry, layer=max(entry.layer, folder.layer))
                value = os.path.join(folder.value, value)
        result.append((names[name], dataclasses.replace(entry, value=value)))
    return result
