"""Captions as OFA is trained to write them."""

import re
import string

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SIDES = re.compile(r"\b(?:left|right)(?:most|wards?|hand(?:ed)?)?\b", re.IGNORECASE)


def target_text(caption: str, max_words: int) -> str:
    """`caption` without ASCII punctuation and with at most `max_words` words, joined by single blanks.

    This is ModelScope's training target: case is kept and nothing is put before the first word.
    """
    # a lone surrogate, which JSON escapes can bring in, cannot be encoded: it becomes "?", and goes with the rest
    text = caption.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.translate(_WITHOUT_PUNCTUATION).split()[:max_words])


def mentions_side(caption: str) -> bool:
    """Whether the caption says left or right, and so would be wrong of the mirrored picture."""
    return _SIDES.search(caption) is not None
