"""Answers as the evaluator of VQA v2 compares them.

The rules are those of GT-Vision-Lab/VQA (commit a013f004, `vqaEval.py`) under Python 2, for which it was written, its
slips among them: published scores depend on each.
"""

import re
from functools import lru_cache

# In this order; ' and : and & are left alone.
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_A_NUMBER = re.compile(r"[0-9],[0-9]")
# A look-behind for a digit was meant, too, but is misspelt there and excludes nothing: "4." loses its period.
_PERIOD = re.compile(r"\.(?![0-9])")
_MOST_PERIODS = 32  # the flag re.UNICODE is passed there where the number of replacements goes
_DIGITS = {"none": "0"} | dict(
    zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11)), strict=True)
)
_ARTICLES = {"a", "an", "the"}
_RIGHT_SPELLINGS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _misspellings() -> dict[str, str]:
    """What is corrected: a contraction without one of its apostrophes."""
    found = {
        word[:at] + word[at + 1 :]: word
        for word in _RIGHT_SPELLINGS.split()
        for at, mark in enumerate(word)
        if mark == "'"
    }
    return found | {"somebody'd": "somebodyd"}  # the wrong way round there


_CONTRACTIONS = _misspellings()


def strip_whitespace(text: str) -> str:
    """Line ends and tabs as spaces, none at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=2**16)
def strip_punctuation(text: str) -> str:
    """`text` without punctuation.

    A mark goes where it stands beside a space anywhere in the text, or where a comma stands between two digits;
    elsewhere it becomes a space. Periods go unless a digit follows, the first 32 of them.
    """
    number = _COMMA_IN_A_NUMBER.search(text) is not None
    found = text
    for mark in _MARKS:
        if mark in text:
            found = found.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    return _PERIOD.sub("", found, count=_MOST_PERIODS)


def lower(text: str) -> str:
    """`text` in lower case, character by character as Python 2 has it: "İ" becomes one character."""
    return "".join(character.lower()[0] for character in text)


def normalise_words(text: str) -> str:
    """`text` in lower case, number words up to ten as digits, without articles, contractions with their apostrophe."""
    digits = (_DIGITS.get(word, word) for word in lower(text).split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


@lru_cache(maxsize=2**16)
def normalise_answer(text: str) -> str:
    """An answer as it is compared: whitespace, punctuation, then words. Done twice it may give another string."""
    return normalise_words(strip_punctuation(strip_whitespace(text)))
