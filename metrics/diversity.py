"""How varied captions are, and whether they are the model's own. Captions are tokenized strings."""

from collections.abc import Collection, Sequence

from metrics.ngrams import Ngram

_PAIR = 2


def ngrams_of(caption: str, size: int) -> list[Ngram]:
    """The n-grams of `size` words, in order."""
    words = caption.split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def distinct(captions: Sequence[str], size: int) -> float:
    """distinct-n (Li et al., arXiv:1510.03055): different n-grams over all n-grams of all captions together, 0 to 1."""
    found = [ngram for caption in captions for ngram in ngrams_of(caption, size)]
    return len(set(found)) / len(found) if found else 0.0


def repeated_share(caption: str) -> float:
    """Share of a caption's pairs of words that it has said before."""
    pairs = ngrams_of(caption, _PAIR)
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def diversity(captions: Sequence[str], training: Collection[str] = ()) -> dict[str, float | None]:
    """Diversity of captions, each value between 0 and 1.

    Returns:
        `distinct-1`, `distinct-2`; `different`: different captions over all; `repeated`: mean share of pairs of words
        that a caption repeats; and, given `training` captions, `vocabulary`: share of their words that are used, and
        `copied`: share of captions that are one of them.
    """
    known = set(training)
    words = {word for caption in known for word in caption.split()}
    used = {word for caption in captions for word in caption.split()}
    return {
        "distinct-1": distinct(captions, 1),
        "distinct-2": distinct(captions, _PAIR),
        "different": len(set(captions)) / len(captions),
        "repeated": sum(map(repeated_share, captions)) / len(captions),
        "vocabulary": len(used & words) / len(words) if words else None,
        "copied": sum(caption in known for caption in captions) / len(captions) if known else None,
    }
