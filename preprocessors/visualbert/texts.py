"""One text or two as VisualBERT reads them, cut to length, with masked words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.pieces import WordPieces

T = TypeVar("T")
PairCut = Literal["longest_first", "published"]

#: The label of a word that was not masked.
IGNORED = -1
#: [CLS] and [SEP] around one text, and the [SEP] of a second.
_SINGLE, _PAIR = 2, 3
#: Pieces of the first text that the published rule never cuts.
_KEPT = 32
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.9


@dataclass(frozen=True, slots=True)
class Text:
    """`ids` and `segments` with the special tokens; `word_labels`, where words were masked, as long as them."""

    ids: list[int]
    segments: list[int]
    word_labels: list[int] | None = None


def cut_single(pieces: Sequence[T], limit: int) -> Sequence[T]:
    """The beginning of a text, so that it has at most `limit` pieces with [CLS] and [SEP]."""
    return pieces[: limit - _SINGLE]


def cut_pair(
    first: Sequence[T], second: Sequence[T], limit: int, *, rule: PairCut = "longest_first"
) -> tuple[Sequence[T], Sequence[T]]:
    """Two texts cut so that they have at most `limit` pieces with [CLS] and two [SEP].

    "longest_first" takes piece by piece from the end of the longer text (of the second where they are equal).
    "published" cuts from the front and takes away more than it has to: what the first text loses is added to the
    second's loss, where it should be subtracted. The second text may lose everything, and the result be too long.
    """
    over = len(first) + len(second) + _PAIR - limit
    if over <= 0:
        return first, second
    if rule == "published":
        from_first = min((over + 1) // 2, max(len(first) - _KEPT, 0))
        return first[from_first:], second[over + from_first :]
    if rule != "longest_first":
        raise ValueError(f'cutting rule {rule!r} is unknown: choose "longest_first" or "published"')
    room = limit - _PAIR
    shorter = min(len(first), len(second))
    if shorter * 2 <= room:  # the longer one alone gives way
        kept = room - shorter
        return (first[:kept], second) if len(first) > len(second) else (first, second[:kept])
    return first[: room - room // 2], second[: room // 2]


def single(vocabulary: WordPieces, pieces: Sequence[int]) -> Text:
    """`[CLS] pieces [SEP]`, all of segment 0."""
    ids = [vocabulary.first, *pieces, vocabulary.end]
    return Text(ids, [0] * len(ids))


def pair(vocabulary: WordPieces, first: Sequence[int], second: Sequence[int]) -> Text:
    """`[CLS] first [SEP] second [SEP]`, the second with its [SEP] of segment 1; one text where the second is empty."""
    if not second:
        return single(vocabulary, first)
    ids = [vocabulary.first, *first, vocabulary.end, *second, vocabulary.end]
    segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    return Text(ids, segments)


def masked(vocabulary: WordPieces, text: Text, draws: Draws, *, probability: float = 0.15) -> Text:
    """The text with words masked and their labels; [CLS] and [SEP] never are.

    Numbers are drawn for the pieces in order, so for the first text before the second.
    """
    special = (vocabulary.first, vocabulary.end)
    ids, labels = text.ids[:], [IGNORED] * len(text.ids)
    # the special tokens are where they were put; a piece of the text has their number only if it was drawn
    for place, piece in enumerate(text.ids):
        if piece in special:
            continue
        ids[place], labels[place] = mask_piece(
            piece, draws, probability=probability, mask=vocabulary.mask, size=vocabulary.size
        )
    return Text(ids, text.segments, labels)


def mask_piece(piece: int, draws: Draws, *, probability: float, mask: int, size: int) -> tuple[int, int]:
    """What is read in place of a word piece, and its label.

    With `probability` the piece is to be predicted: of these, 8 in 10 read [MASK], 1 in 10 any of the `size` entries
    of the vocabulary, special ones among them, and 1 in 10 the piece itself. One number u decides both: it is compared
    with `probability`, then u / probability with the shares. (BERT; pieces of one word are drawn apart.)
    """
    u = draws.random()
    if u >= probability:
        return piece, IGNORED
    u /= probability
    if u < _MASK_SHARE:
        return mask, piece
    if u < _RANDOM_SHARE:
        return draws.randrange(size), piece
    return piece, piece
