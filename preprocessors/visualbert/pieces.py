"""Texts to word pieces, by number."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Self

_CACHED_WORDS = 100_000


class WordPieces:
    """A BERT vocabulary: what a text is split into, and the numbers of the special tokens.

    A text that spells a special token is split like any other, as the original does it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        self.pad: int = tokenizer.pad_token_id
        self.unknown: int = tokenizer.unk_token_id
        self.first: int = tokenizer.cls_token_id
        self.end: int = tokenizer.sep_token_id
        self.mask: int = tokenizer.mask_token_id
        #: Single words recur; VCR's texts come word by word.
        self.split_word = lru_cache(_CACHED_WORDS)(self._split_word)
        self.question_mark = self.split("?")

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Of a tokenizer of transformers."""
        return cls(tokenizer)

    def split(self, text: str) -> list[int]:
        """The numbers of a text's pieces, without special tokens.

        No piece reaches over a space, so that each word is looked up on its own, and split once.
        """
        return [piece for word in text.split(" ") for piece in self.split_word(word)]

    def split_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`split` of many texts at once."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(list(ids))

    def _split_word(self, word: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(word, add_special_tokens=False, split_special_tokens=True)["input_ids"])
