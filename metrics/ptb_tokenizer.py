"""Penn Treebank tokens as pycocoevalcap's `PTBTokenizer` makes them (Stanford CoreNLP 3.4.1 in Java), without Java.

Known differences, all of them rare:

- A carriage return, form feed, vertical tab, U+2028 or U+2029 inside a caption starts a new line in the original, which
  then gives every later caption the tokens of the one before it. Here it is a space: one caption is one line.
- A lone surrogate cannot be encoded and stops the original; here it is dropped as an unknown character.
- Tokens that the original finds across two captions, other than the two cases of `_context`.
- Characters beyond the basic plane inside a web address are kept by the original and part it here.
- A capital sigma before a digit is lower-cased as a final one here, as an inner one there.
- Rules of the original for rare words that no probe brought up (see `metrics/ptb_rules.py`).

On 100,000 generated hard captions five differed, on the 45,493 of the photographs none.
"""

import re
from functools import lru_cache

from metrics.ptb_rules import NOT_PLAIN, SENTENCE_STARTS, next_token

# What pycocoevalcap drops. Tokens are lower-cased before they are compared, so that brackets ("-lrb-") stay.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())
_LINE_BREAK = re.compile(r"[\n\r\v\f\u2028\u2029]")
_SPACES = re.compile(r"[ \t]*")
# Short cuts. A caption of plain words that may end in a full stop; and, within a caption, a word of letters (then a
# space or a mark and a space; a full stop only at the end) or one of letters, hyphens and apostrophes: what its tokens
# are hangs on nothing beside it.
_PLAIN_CAPTION = re.compile(r" *((?:[A-Za-z]+ +)*[A-Za-z]{2,}) *\.? *")
_PLAIN_WORD = re.compile(r"([A-Za-z]{2,})(?:[,;:!?]?(?=[ \n])|\.(?=\n| \n))")
_JOINED_WORD = re.compile(r"[A-Za-z'’]+(?:-[A-Za-z'’]+)*(?=[ \n])")
_OPEN_END = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]|art|ca|figs?|nos?|op|pp|prop)\.$", re.IGNORECASE)
_OPEN = len("prop.")  # characters at a caption's end that can match it
_START = re.compile(rf"\s*(?:{SENTENCE_STARTS}(?=\s|$)|\d)")


def ptb_tokenize(captions: list[str]) -> list[str]:
    """Tokenize as pycocoevalcap: lower case, punctuation dropped, tokens joined by one space, one line per caption.

    The same list in the same order gives what one run of the original over it gives: a caption that ends in an initial
    ("family z.") or in "no." is read together with the start of the next one there, and so here.
    """
    following = [*captions, ""][1:]
    return [_tokenize(caption, _context(caption, after)) for caption, after in zip(captions, following, strict=True)]


def _context(caption: str, after: str) -> str:
    """What of the next caption decides whether the full stop that ends this one is part of its last word."""
    body = caption.rstrip(" \u00a0\n")
    if body.endswith(".") and _OPEN_END.search(body, len(body) - _OPEN) and (start := _START.match(after)):
        return start[0]
    return ""


@lru_cache(maxsize=1 << 16)
def _tokenize(caption: str, after: str) -> str:
    plain = _PLAIN_CAPTION.fullmatch(caption)
    if plain and NOT_PLAIN.isdisjoint(words := plain[1].lower().split()):
        return " ".join(words)
    text = f"{_LINE_BREAK.sub(' ', caption)}\n{after}\n"
    return " ".join(_tokens(text, len(caption)))


def _tokens(text: str, end: int) -> list[str]:
    """The tokens of a line that ends at `end`, lower case, without punctuation."""
    tokens: list[str] = []
    position = 0
    while (position := _SPACES.match(text, position).end()) < end:  # type: ignore[union-attr]  # it matches nothing too
        plain = _PLAIN_WORD.match(text, position)
        if plain and (word := plain[1].lower()) not in NOT_PLAIN:
            tokens.append(word)
            position = plain.end()
        elif joined := _JOINED_WORD.match(text, position):
            tokens += _parts(joined[0])
            position = joined.end()
        else:
            token, position = next_token(text, position)
            if (token := token.lower()) and token not in PUNCTUATION:
                tokens.append(token)
    return tokens


@lru_cache(maxsize=1 << 16)
def _parts(word: str) -> tuple[str, ...]:
    """The tokens of a word that stands between spaces."""
    text, position, tokens = f"{word}\n", 0, []
    while position < len(word):
        token, position = next_token(text, position)
        if (token := token.lower()) and token not in PUNCTUATION:
            tokens.append(token)
    return tuple(tokens)
