"""What commands write: results to stdout, and nothing else there. Imports the standard library only."""

import contextlib
import sys
from typing import Any


def write(text: str) -> None:
    """A result, as a line of stdout."""
    # Half a character, which JSON may carry, and what a terminal's encoding lacks are written as Python writes them.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def results_only() -> contextlib.AbstractContextManager[Any]:
    """Sends what libraries print to stderr, so that stdout holds results only."""
    return contextlib.redirect_stdout(sys.stderr)


def printable(text: str) -> str:
    """A message without what would command a terminal: names in files may hold anything."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
