"""n-grams of a tokenized caption, the common ground of BLEU and CIDEr."""

MAX_ORDER = 4  # both look at one to four words

Ngram = tuple[str, ...]


def count_ngrams(caption: str) -> tuple[int, dict[Ngram, int]]:
    """Length in words, and how often each n-gram of one to `MAX_ORDER` words occurs."""
    words = caption.split()
    counts: dict[Ngram, int] = {}
    shifted = [words[start:] for start in range(MAX_ORDER)]
    for order in range(1, MAX_ORDER + 1):
        for ngram in zip(*shifted[:order], strict=False):  # as long as the shortest
            counts[ngram] = counts.get(ngram, 0) + 1
    return len(words), counts
