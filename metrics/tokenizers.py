"""How captions are divided into what n-gram scores count: the words of English, or characters.

Chinese, Japanese, Thai and others put no spaces between words, so that a whole sentence would be one word: two captions
then are the same or have nothing in common. Characters are the usual unit there (COCO-CN, AI Challenger).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

from metrics.ptb_tokenizer import ptb_tokenize

Tokenize = Callable[[list[str]], list[str]]

# Scripts without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer; kana, bopomofo and their extensions; Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
_LETTER = re.compile(rf"[{_UNSPACED}]")


def character_tokenize(captions: list[str]) -> list[str]:
    """Each character of a script without spaces is a token, with the marks that are written on it; what stands between
    such characters (Latin words, numbers) is divided into words. Lower case, punctuation and symbols dropped, tokens
    joined by one space.

    Forms that only look different (full-width letters, half-width kana) are made one: Unicode's NFKC.
    """
    return [" ".join(_characters(unicodedata.normalize("NFKC", caption).lower())) for caption in captions]


#: `eval.tokenizer` -> captions to tokens joined by spaces.
TOKENIZERS: dict[str, Tokenize] = {"ptb": ptb_tokenize, "characters": character_tokenize}


def tokenizer_of(name: str) -> Tokenize:
    """The function of that name. ValueError for an unknown one."""
    if name not in TOKENIZERS:
        raise ValueError(f'unknown tokenizer "{name}": choose one of {", ".join(TOKENIZERS)}')
    return TOKENIZERS[name]


def unspaced_share(captions: Iterable[str]) -> float:
    """The share of the letters that are of scripts without spaces; 0 where there is no letter."""
    unspaced = letters = 0
    for caption in captions:
        letters += sum(map(str.isalpha, caption))
        unspaced += sum(character.isalpha() for character in _LETTER.findall(caption))
    return unspaced / letters if letters else 0.0


def _characters(caption: str) -> list[str]:
    tokens: list[str] = []
    word = False  # whether the last token is a word that goes on
    for character in caption:
        kind = unicodedata.category(character)[0]
        if kind == "M" and tokens:
            tokens[-1] += character
        elif _LETTER.match(character) and kind in "LN":
            tokens.append(character)
            word = False
        elif kind in "LN" and word:
            tokens[-1] += character
        elif kind in "LN":
            tokens.append(character)
            word = True
        else:
            word = False
    return tokens
