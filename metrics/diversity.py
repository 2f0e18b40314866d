"""How varied captions are, and whether they are the model's own. Captions are tokenized strings."""

from collections.abc import Collection, Sequence

from metrics.ngrams import Ngram

_PAIR = 2
#: Words that hardly a caption ends with unless it was cut: what they lead to is missing. People's end so now and then
#: ("a game to watch and bet in"), and oftener in others ("passers-by look on", "he waits for her").
LEADING = frozenset(
    "a an the and or but nor of to in at with from for into onto as than because if which who whose while "
    "his its their my your our very".split()
)


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


def is_cut_off(caption: str) -> bool:
    """Whether a caption ends in a word that leads to another, such as "a" or "with"."""
    return caption.rpartition(" ")[2].lower() in LEADING


def different(captions: Sequence[str]) -> float:
    """Different captions over all, more than 0 to 1."""
    return len(set(captions)) / len(captions)


def diversity(captions: Sequence[str], training: Collection[str] = ()) -> dict[str, float | None]:
    """Diversity of captions, each value between 0 and 1.

    Returns:
        `distinct-1`, `distinct-2`; `different`: different captions over all; `repeated`: mean share of pairs of words
        that a caption repeats; `cut_off`: share of captions that end in a word of `LEADING`; and, given
        `training` captions, `vocabulary`: share of their words that are used, and `copied`: share of captions that are
        one of them.
    """
    known = set(training)
    words = {word for caption in known for word in caption.split()}
    used = {word for caption in captions for word in caption.split()}
    return {
        "distinct-1": distinct(captions, 1),
        "distinct-2": distinct(captions, _PAIR),
        "different": different(captions),
        "repeated": sum(map(repeated_share, captions)) / len(captions),
        "cut_off": sum(map(is_cut_off, captions)) / len(captions),
        "vocabulary": len(used & words) / len(words) if words else None,
        "copied": sum(caption in known for caption in captions) / len(captions) if known else None,
    }
