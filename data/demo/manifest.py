"""The file that says what a drawn set is of: by it a set is known, and one that was broken off is not."""

from pathlib import Path
from typing import Any

from data.files import replacing
from data.reading import load_json


def read_manifest(file: Path) -> Any:
    """Its content; None for one that is missing or broken."""
    try:
        return load_json(file)
    except (OSError, ValueError):
        return None


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
