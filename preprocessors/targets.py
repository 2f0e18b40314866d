"""Captions as OFA is trained to write them."""

import re
import string

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SIDES = re.compile(r"\b(?:left|right)(?:most|wards?|hand(?:ed)?)?\b", re.IGNORECASE)


def target_text(caption: str, max_words: int, *, lowercase: bool) -> str:
    """`caption` without ASCII punctuation and with at most `max_words` words, a single blank before each.

    The first word has its blank too, as in OFA's own training (ModelScope's later preprocessing leaves it out): the
    public weights write " a", and a first word is the same token as in mid-sentence.
    """
    # a lone surrogate, which JSON escapes can bring in, cannot be encoded: it becomes "?", and goes with the rest
    text = caption.encode("utf-8", "replace").decode("utf-8")
    text = text.lower() if lowercase else text
    return "".join(f" {word}" for word in text.translate(_WITHOUT_PUNCTUATION).split()[:max_words])


def mentions_side(caption: str) -> bool:
    """Whether the caption says left or right, and so would be wrong of the mirrored picture."""
    return _SIDES.search(caption) is not None
