"""Styles as tokens: style k is written as `<code_k>`, an entry that OFA's vocabulary already has.

The map is kept with every checkpoint, so that a style's token never depends on the order of a file read later.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from data.names import fold
from data.reading import load_json
from models.ofa.tokenization import OFATokenizer

STYLE_MAP_FILE = "style_map.json"  # beside the weights of every checkpoint


@dataclass(frozen=True)
class StyleMap:
    """`tokens`: style name -> `<code_k>`; `unknown`: the token reserved for styles that are not in the map."""

    tokens: Mapping[str, str]
    unknown: str

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("the style list is empty: name at least one style")
        used = [*self.tokens.values(), self.unknown]
        for token in used:
            _code_number(token)
        if len(set(used)) < len(used):
            repeated = next(token for token in used if used.count(token) > 1)
            raise ValueError(f"the style map uses {repeated} twice: every style, and unknown, needs a token of its own")

    @classmethod
    def from_styles(cls, styles: Iterable[str]) -> Self:
        """Style k of the list becomes `<code_k>`; the first code after them is reserved for unknown styles."""
        names = [style.strip() for style in styles]
        for name in names:
            if not name or names.count(name) > 1:
                raise ValueError(f"style {name!r} is empty or listed twice: every style needs a name of its own")
        return cls({name: f"<code_{k}>" for k, name in enumerate(names)}, unknown=f"<code_{len(names)}>")

    def with_style(self, name: str) -> "StyleMap":
        """The map with one more style, which gets the first code that nothing has.

        ValueError for a name that is empty, or taken but for case and blanks.
        """
        name = name.strip()
        if not name or not name.isprintable():
            raise ValueError(f"style {name!r} is no name: give the new style one of letters")
        taken = self._folded.get(fold(name))
        if taken:
            raise ValueError(f"the model has a style {taken[0]!r} already: choose another name")
        used = {_code_number(token) for token in [*self.tokens.values(), self.unknown]}
        free = next(number for number in itertools.count() if number not in used)
        return StyleMap({**self.tokens, name: f"<code_{free}>"}, self.unknown)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a map written by `to_json`, or a plain object of names and tokens; `ValueError` names a broken file."""
        try:
            content = load_json(path)
        except OSError as error:
            raise ValueError(f"cannot read the style map {path}: {error.strerror}; name an existing file") from error
        except ValueError as error:
            raise ValueError(f"the style map {path} is not valid JSON: {error}") from error
        try:
            if isinstance(content, dict) and set(content) == {"styles", "unknown"}:
                return cls(content["styles"], content["unknown"])
            if not isinstance(content, dict):
                raise ValueError(f"expected an object of style names and tokens, found a {type(content).__name__}")
            after = 1 + max((_code_number(token) for token in content.values()), default=0)
            return cls(content, f"<code_{after}>")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"the style map {path}: {error}") from error

    def to_json(self, path: str | Path) -> None:
        """Write the map to a file."""
        content = {"styles": dict(self.tokens), "unknown": self.unknown}
        Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any name or token, not with the order of the names."""
        content = json.dumps([sorted(self.tokens.items()), self.unknown])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def find(self, name: str) -> str | None:
        """The style as the map writes it, or None. Case and outer blanks are forgiven where one style remains."""
        if name in self.tokens:
            return name
        candidates = self._folded.get(fold(name), [])
        return candidates[0] if len(candidates) == 1 else None

    def lookup(self, name: str) -> str:
        """Like `find`, but raises `ValueError` with the closest names when there is no such style."""
        found = self.find(name)
        if found is None:
            folded = get_close_matches(fold(name), self._folded, n=3)
            closest = [style for key in folded for style in self._folded[key]] or list(self.tokens)[:5]
            remedy = f"did you mean {', '.join(closest)}?" if folded else f"there are {', '.join(closest)}, …"
            raise ValueError(f'unknown style {name!r}: {remedy} (unknown_style: "token" accepts any)')
        return found

    def token_ids(self, tokenizer: OFATokenizer) -> dict[str, int]:
        """Vocabulary id of each style's token; raises `ValueError` when the vocabulary has too few codes."""
        highest = max(_code_number(token) for token in [*self.tokens.values(), self.unknown])
        if highest >= tokenizer.num_codes:
            raise ValueError(
                f"{len(self.tokens)} styles and the reserved token reach <code_{highest}>, but the vocabulary holds "
                f"{tokenizer.num_codes} codes: use fewer styles, or a vocabulary with more codes"
            )
        return {style: tokenizer.code_id(_code_number(token)) for style, token in self.tokens.items()}

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        folded: dict[str, list[str]] = {}
        for name in self.tokens:
            folded.setdefault(fold(name), []).append(name)
        return folded


def style_words(name: str) -> str:
    """A style's name as words in mid-sentence: "Old_Fashioned " -> "old fashioned"."""
    return " ".join(name.replace("_", " ").split()).lower()


def initial_style_embeddings(
    embedding_weight: Tensor, style_map: StyleMap, tokenizer: OFATokenizer
) -> dict[int, Tensor]:
    """Starting vectors of the style tokens: {token id: mean embedding [D] of the words of its style}.

    `embedding_weight` is [V,D]. The token for unknown styles starts from the mean of all styles. The vectors are
    detached copies; nothing is changed here.
    """
    weight = embedding_weight.detach()
    vectors: dict[int, Tensor] = {}
    for style, token_id in style_map.token_ids(tokenizer).items():
        words = tokenizer.encode_text(" " + style_words(style))  # the blank: as the words stand within a sentence
        vectors[token_id] = weight[words].float().mean(dim=0).to(weight.dtype)
    every = torch.stack(list(vectors.values())).float().mean(dim=0).to(weight.dtype)
    vectors[tokenizer.code_id(_code_number(style_map.unknown))] = every
    return vectors


def _code_number(token: str) -> int:
    if not (isinstance(token, str) and token.startswith("<code_") and token.endswith(">") and token[6:-1].isdecimal()):
        raise ValueError(f"{token!r} is no style token: expected the form <code_0>")
    return int(token[6:-1])
