"""Fluency: the perplexity of captions under an n-gram model of human captions.

Interpolated Kneser-Ney (Kneser and Ney, 1995; Chen and Goodman, 1999) with one discount. For a history h of words and a
word w, with counts c, N(h·) different words after h, and D the discount:

    p(w | h) = max(c(hw) - D, 0) / c(h) + D · N(h·) / c(h) · p(w | shorter h)

Below the highest order a count is that of the different words before the n-gram. The shortest history ends in a uniform
distribution over the vocabulary and one unknown word, so nothing has probability 0.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from metrics.ngrams import Ngram

ORDER = 3
DISCOUNT = 0.75
_START, _END = "<s>", "</s>"


class KneserNey:
    """A model of tokenized captions; `order` words at a time."""

    def __init__(self, captions: Iterable[str], *, order: int = ORDER, discount: float = DISCOUNT):
        self.order = order
        self.discount = discount
        highest: Counter[Ngram] = Counter()
        for caption in captions:
            words = self._words(caption)
            highest.update(tuple(words[i - order + 1 : i + 1]) for i in range(order - 1, len(words)))
        if not highest:
            raise ValueError("a language model needs captions to be counted, and there are none")
        self._counts: list[Counter[Ngram]] = [highest]  # of the highest order first
        for _ in range(order - 1):
            self._counts.append(Counter(ngram[1:] for ngram in self._counts[-1]))
        self._totals: list[dict[Ngram, int]] = []  # history -> sum of counts after it
        self._followers: list[dict[Ngram, int]] = []  # history -> different words after it
        for counts in self._counts:
            totals: dict[Ngram, int] = defaultdict(int)
            followers: dict[Ngram, int] = defaultdict(int)
            for ngram, count in counts.items():
                totals[ngram[:-1]] += count
                followers[ngram[:-1]] += 1
            self._totals.append(dict(totals))
            self._followers.append(dict(followers))
        self._uniform = 1 / (len(self._counts[-1]) + 1)

    def probability(self, word: str, history: Sequence[str]) -> float:
        """p(word | history): the last `order` - 1 words of `history` count."""
        result = self._uniform
        for size in range(self.order):  # from no history to the longest
            level = self.order - 1 - size
            context = tuple(history[len(history) - size :])
            total = self._totals[level].get(context)
            if total is None:
                continue  # a history never met says nothing
            own = max(self._counts[level][(*context, word)] - self.discount, 0) / total
            result = own + self.discount * self._followers[level][context] / total * result
        return result

    def perplexity(self, captions: Sequence[str]) -> float:
        """exp of the mean negative log-probability of a word, ends included, over all captions together."""
        total, words = 0.0, 0
        for caption in captions:
            text = self._words(caption)
            for place in range(self.order - 1, len(text)):
                total -= math.log(self.probability(text[place], text[place - self.order + 1 : place]))
                words += 1
        return math.exp(total / words)

    def _words(self, caption: str) -> list[str]:
        return [_START] * (self.order - 1) + caption.split() + [_END]
