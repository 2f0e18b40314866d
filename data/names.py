"""Names that people and programs write in several ways: the same forgiveness wherever one is looked up."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any


def fold(name: str) -> str:
    """What names have in common that differ in case and blanks alone."""
    return " ".join(name.split()).casefold()


def canonical_style(styles: Sequence[str]) -> Callable[[str], str]:
    """A function that maps a name to the style it means.

    That is the style of exactly this name, else the only one that differs in case and blanks alone, else the name
    itself: two styles that differ in case alone stay two.
    """
    exact = set(styles)
    folded: dict[str, list[str]] = defaultdict(list)
    for style in styles:
        folded[fold(style)].append(style)

    def canonical(name: str) -> str:
        candidates = folded.get(fold(name), [])
        return candidates[0] if name not in exact and len(candidates) == 1 else name

    return canonical


def identifier(value: Any) -> str | None:
    """An image's id as text, whether a program wrote it as 7, "7", " 7 " or 7.0; None for what is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip() if isinstance(value, (int, str)) else None
