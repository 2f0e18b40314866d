"""Questions as word ids: the tokenizer of the public TRAR and MCAN code, and its vocabulary."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

PAD, UNKNOWN = 0, 1
#: The first entries of every vocabulary; the third is never used.
SPECIAL = ("PAD", "UNK", "CLS")
#: Words of a VQA question that are read, as published; CLEVR's are read whole.
VQA_WORDS = 14
_DROPPED = re.compile(r"""[.,'!?"()*#:;]""")
_APART = str.maketrans("-/", "  ")


def split_words(question: str) -> list[str]:
    """The words of a question: lower case, punctuation dropped, hyphens and slashes as spaces."""
    return _DROPPED.sub("", question.lower()).translate(_APART).split()


@dataclass(frozen=True)
class Vocabulary:
    """Words by number. Entry 0 is padding and 1 stands for every word that is not there."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"a vocabulary starts with {', '.join(SPECIAL)}, not with {', '.join(self.words[:3])}")
        if len(self.ids) < len(self.words):
            twice = next(word for number, word in enumerate(self.words) if self.ids[word] != number)
            raise ValueError(f"the vocabulary has {twice!r} twice: keep one")

    @classmethod
    def of(cls, questions: Iterable[str]) -> "Vocabulary":
        """Every word of the questions, in the order of first appearance."""
        found = dict.fromkeys(SPECIAL)
        for question in questions:
            found.update(dict.fromkeys(split_words(question)))
        return cls(tuple(found))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, question: str, length: int) -> list[int]:
        """`length` ids: words beyond are cut, places beyond the words are padding, all of them in an empty question."""
        ids = [self.ids.get(word, UNKNOWN) for word in split_words(question)[:length]]
        return ids + [PAD] * (length - len(ids))

    def unknown_share(self, questions: Iterable[str]) -> float:
        """Which part of the words of the questions is not in the vocabulary; 0 where there is no word."""
        words = [word for question in questions for word in split_words(question)]
        return sum(word not in self.ids for word in words) / max(1, len(words))


def longest(questions: Sequence[str]) -> int:
    """Words of the longest question, at least 1: the length that CLEVR's questions are padded to."""
    return max((len(split_words(question)) for question in questions), default=0) or 1
