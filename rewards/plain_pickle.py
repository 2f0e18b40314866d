"""Pickles of document frequencies, vetted: `vetted` runs in a process of its own, `plain` reads what it gives.

Imports the standard library only: the process that vets starts in some milliseconds.
"""

import io
import pickle
from collections import defaultdict
from typing import Any

_HARMLESS = {
    ("collections", "defaultdict"): defaultdict,
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in
       {"float": float, "int": int, "long": int, "str": str, "unicode": str, "dict": dict, "tuple": tuple}.items()},
}  # fmt: skip
_LONGEST = 1000  # characters of a word, and words of an n-gram
_LARGEST = 2.0**53  # whole numbers beyond are not exact


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, strings and containers; anything else that a pickle names is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _HARMLESS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code") from None


def plain(content: bytes) -> Any:
    """What a pickle of plain values holds."""
    return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def vetted(content: bytes) -> bytes:
    """A pickle of `(number of documents, {tuple of words: count}, fingerprint or None)`, of what a table's pickle says.

    Raises:
        ValueError: the pickle is broken, names code, or holds no such table.
    """
    try:
        table = plain(content)
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(str(error) or type(error).__name__) from error
    counts = table.get("document_frequency") if isinstance(table, dict) else None
    documents = table.get("ref_len") if isinstance(table, dict) else None
    if not isinstance(counts, dict) or not _is_count(documents) or not documents:
        raise ValueError("it must hold 'ref_len' and 'document_frequency'")
    for ngram, count in counts.items():
        if not (_is_ngram(ngram) and _is_count(count)):
            raise ValueError(f"it counts {_short(ngram)} as {_short(count)}; it must count tuples of words, as numbers")
    found = table.get("fingerprint")
    known = found if isinstance(found, str) and len(found) <= _LONGEST else None
    return pickle.dumps((float(documents), dict(counts), known), protocol=4)


def _is_ngram(value: object) -> bool:
    if type(value) is not tuple or len(value) > _LONGEST:
        return False
    return all(type(word) is str and len(word) <= _LONGEST for word in value)


def _is_count(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST  # type: ignore[operator]


def _short(value: object) -> str:
    """For a message; of what may be endless within itself, its type only."""
    return repr(value)[:60] if type(value) in (int, float, str, bytes, type(None)) else f"a {type(value).__name__}"
