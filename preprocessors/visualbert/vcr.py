"""VCR: questions that point at objects, four answers, four reasons.

A text of VCR is a list of words and of lists of object numbers, `["Why", "is", [0], "pointing", "at", [1, 2], "?"]`.
The objects get names, and each region is aligned with the words that name it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.questions.vcr import PERSON, Span, objects_used
from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.texts import Text, cut_pair, masked, pair

Task = Literal["answer", "rationale"]
Rule = Literal["mended", "published"]

#: Names of people in order of their first mention; the published list has one name twice.
NAMES = (
    "Casey Riley Jessie Jackie Avery Jaime Peyton Kerry Jody Kendall Peyton Skyler Frankie Pat Quinn".split()
)  # fmt: skip
#: Choices of a question, and rows of pre-training an item: four answers, four reasons.
CHOICES, ROWS = 4, 8


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text's pieces, and the number of the word that each is of."""

    ids: Sequence[int]
    words: Sequence[int]


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with one of its answers; `alignment` has the positions of the words that name each region."""

    text: Text
    alignment: list[list[int]]
    correct: bool | None


def named(
    span: Span, objects: Sequence[str], known: Mapping[int, str] | None = None, *, rule: Rule = "mended"
) -> tuple[list[str], dict[int, str]]:
    """The words of a text with names for objects, and the names known after it.

    People get a name of the list, other objects their class. `known` holds the names of texts before. "published"
    begins the list again in each text, so that a person who is first mentioned in an answer may get the name of
    another; "mended" gives names that are not taken.
    """
    names = dict(known or {})
    people = 0
    words: list[str] = []
    for word in span:
        if isinstance(word, str):
            words.append(word)
            continue
        for number in word:
            if number not in names and objects[number] != PERSON:
                names[number] = objects[number]
            elif number not in names:
                names[number] = NAMES[people % len(NAMES)] if rule == "published" else _free_name(names)
                people += 1
            words.append(names[number])
    return words, names


def _free_name(names: Mapping[int, str]) -> str:
    """The first name that fewest objects have."""
    taken = Counter(names.values())
    return min(dict.fromkeys(NAMES), key=lambda name: taken[name])


def choices(
    vocabulary: WordPieces,
    item: Mapping[str, Any],
    task: Task,
    *,
    limit: int = 128,
    names: Rule = "mended",
    positions: Rule = "mended",
    cut: Rule = "mended",
) -> list[Choice]:
    """The four choices of an item: its question with each answer, or question and right answer with each reason.

    Args:
        names: as `named`.
        positions: where a word stands. "published" takes the number of the word for its position, which is too small
            after a word of several pieces; "mended" takes the position of its first piece.
        cut: of texts beyond `limit`. "published" cuts the choice alone, from its front; "mended" cuts the longer text.

    Raises:
        ValueError: a text points at an object that the item does not have, or nothing would be left of a choice.
    """
    question, spans, label = _spans(item, task)
    words, known = _named(question, item, None, names)
    first, (used, regions) = _pieces(vocabulary, words), objects_used(item)
    result = []
    for number, span in enumerate(spans):
        second = _pieces(vocabulary, _named(span, item, known, names)[0])
        a, b = _cut(first, second, limit, cut)
        alignment: list[list[int]] = [[] for _ in range(len(used) + 1)]
        end = len(a.ids) + 2 + len(b.ids)
        for of_span, pieces, offset in ((question, a, 1), (span, b, len(a.ids) + 2)):
            for region, position in _positions(of_span, pieces, regions, positions):
                if position + offset < end:
                    alignment[region].append(position + offset)
        result.append(Choice(pair(vocabulary, a.ids, b.ids), alignment, None if label is None else number == label))
    return result


def pretraining_choices(vocabulary: WordPieces, item: Mapping[str, Any], **rules: Any) -> list[Choice]:
    """The eight rows of an item in pre-training: four answers, then four reasons; the keywords of `choices`."""
    return [*choices(vocabulary, item, "answer", **rules), *choices(vocabulary, item, "rationale", **rules)]


def pretraining_row(row: int, *, rule: Rule = "mended") -> tuple[int, int]:
    """The item and which of its eight choices make the pre-training row `row`.

    "published" divides once too often: all rows of an item are one choice, that of the item's number.
    """
    item, choice = divmod(row, ROWS)
    return item, item % ROWS if rule == "published" else choice


def masked_choice(vocabulary: WordPieces, choice: Choice, draws: Draws) -> Choice:
    """The choice with words masked."""
    return Choice(masked(vocabulary, choice.text, draws), choice.alignment, choice.correct)


def _spans(item: Mapping[str, Any], task: Task) -> tuple[Span, Sequence[Span], int | None]:
    """What comes first, the choices, and the number of the right one, None where a test set keeps it back."""
    if task == "answer":
        return item["question"], item["answer_choices"], item.get("answer_label")
    if item.get("answer_label") is None:
        raise ValueError("reasons are read after the right answer, but the item has no answer_label: predict it first")
    first = [*item["question"], *item["answer_choices"][item["answer_label"]]]
    return first, item["rationale_choices"], item.get("rationale_label")


def _named(span: Span, item: Mapping[str, Any], known: Mapping[int, str] | None, rule: Rule):
    objects = item["objects"]
    beyond = [number for word in span if not isinstance(word, str) for number in word if not 0 <= number < len(objects)]
    if beyond:
        where = item.get("annot_id", "an item")
        raise ValueError(f"{where} points at object {beyond[0]}, but has {len(objects)}: correct the annotation")
    return named(span, objects, known, rule=rule)


def _pieces(vocabulary: WordPieces, words: Sequence[str]) -> Pieces:
    split = [vocabulary.split_word(word) for word in words]
    ids = [piece for pieces in split for piece in pieces]
    return Pieces(ids, [number for number, pieces in enumerate(split) for _ in pieces])


def _cut(first: Pieces, second: Pieces, limit: int, rule: Rule) -> tuple[Pieces, Pieces]:
    if rule == "published":
        over = max(len(first.ids) + len(second.ids) + 3 - limit, 0)
        if over >= len(second.ids):
            raise ValueError(
                f"a question of {len(first.ids)} word pieces leaves no room for its answers in {limit}: cut by the "
                '"mended" rule'
            )
        return first, Pieces(second.ids[over:], second.words[over:])
    a, b = cut_pair(first.ids, second.ids, limit)
    return Pieces(a, first.words[: len(a)]), Pieces(b, second.words[: len(b)])


def _positions(span: Span, pieces: Pieces, regions: Sequence[int], rule: Rule) -> list[tuple[int, int]]:
    """(region, position within the pieces) of each object that the text points at; of those cut off, none."""
    found, word = [], 0
    place = {number: position for position, number in reversed(list(enumerate(pieces.words)))}
    for part in span:
        for number in [None] if isinstance(part, str) else part:
            if number is not None and word in place:
                found.append((regions[number], word if rule == "published" else place[word]))
            word += 1
    return found
