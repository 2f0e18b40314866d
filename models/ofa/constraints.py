"""What may come next in a caption: the limits that beam search and sampling share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from models.ofa.configuration import OFAConfig


@dataclass(frozen=True)
class Constraints:
    """Limits of a caption.

    Attributes:
        min_len, max_len_b: fewest and most tokens before eos.
        no_repeat_ngram_size: an n-gram of this many tokens (bos among them) occurs once; 0 allows all.
        pad, eos: ids of the vocabulary.
        leading: words, as tokens, that lead to another, such as "a": no caption ends with one before `max_len_b`.
    """

    min_len: int
    max_len_b: int
    no_repeat_ngram_size: int
    pad: int
    eos: int
    leading: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(
        cls,
        config: OFAConfig,
        min_len: int,
        max_len_b: int,
        no_repeat_ngram_size: int,
        leading: Sequence[Sequence[int]] = (),
    ) -> Self:
        """Those of a model of `config`."""
        words = tuple(tuple(word) for word in leading)
        return cls(min_len, max_len_b, no_repeat_ngram_size, config.pad_token_id, config.eos_token_id, words)

    def apply(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Set the scores [N, V] of tokens that may not come after `tokens` [N, t], bos first, to -inf; in place."""
        step = tokens.shape[1] - 1
        scores.masked_fill_(scores.isnan(), -torch.inf)
        scores[:, self.pad] = -torch.inf
        if step < self.min_len:
            scores[:, self.eos] = -torch.inf
        if self.leading and step < self.max_len_b:
            scores[:, self.eos].masked_fill_(ending_with(tokens, self.leading), -torch.inf)
        if step >= self.max_len_b:
            ending = scores[:, self.eos].clone()
            scores.fill_(-torch.inf)
            scores[:, self.eos] = ending
        banned = forbidden_tokens(tokens, self.no_repeat_ngram_size)
        if banned.shape[1]:
            # Rows without a ban point at pad, which is forbidden anyway: no shape depends on the data.
            # A caption may start with a token that is none of the vocabulary.
            there = (banned >= 0) & (banned < scores.shape[1])
            scores.scatter_(1, banned.where(there, self.pad), -torch.inf)
        return scores

    def own_ends(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """bool [N]: whether eos is the likeliest token after `tokens` [N, t] where their length forces none."""
        longer = replace(self, max_len_b=tokens.shape[1])
        return longer.apply(scores.clone(), tokens).argmax(-1).eq(self.eos)


def ending_with(tokens: Tensor, words: Sequence[Sequence[int]]) -> Tensor:
    """bool [N]: whether captions so far [N, t] end with one of some words, each of one token or more."""
    found = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
    for size in {len(word) for word in words}:
        if size <= tokens.shape[1]:
            known = tokens.new_tensor([word for word in words if len(word) == size])
            found |= (tokens[:, None, -size:] == known).all(-1).any(-1)
    return found


def forbidden_tokens(tokens: Tensor, size: int) -> Tensor:
    """Tokens that would complete an n-gram of `size` for the second time.

    Args:
        tokens: captions so far [N, t], bos included.
        size: tokens in an n-gram; 0 forbids nothing.

    Returns:
        [N, W] int64 over the W n-grams so far: the forbidden token, or -1.
    """
    if size <= 0 or tokens.shape[1] < size:
        return tokens.new_empty(tokens.shape[0], 0)
    grams = tokens.unfold(1, size, 1)
    tail = tokens[:, tokens.shape[1] - size + 1 :]
    repeated = (grams[..., :-1] == tail[:, None]).all(-1)
    return grams[..., -1].masked_fill(~repeated, -1)
