"""VQA's questions and answers.

Fine-tuning reads the answer at the mask of `[CLS] question ? [MASK] [SEP]`; pre-training reads
`[CLS] question ? answer [SEP]` with words masked.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocessors.visualbert.draws import Draws
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.texts import Text, cut_single, masked, single

AnswerSpelling = Literal["words", "published"]

UNKNOWN = "<unk>"
#: What each person who gave an answer adds to its score.
_SHARE = np.float32(0.3)
_WORDS = re.compile(r"(\W+)")


def question_words(question: str) -> list[str]:
    """The words of a question as Pythia's imdb files hold them (`question_tokens`).

    Lower case, without commas and question marks, `'s` apart, split at everything that is no letter, digit or
    underscore; what it is split at stays, where it is not space.
    """
    text = question.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return [word for part in _WORDS.split(text) if (word := part.strip())]


def question_text(vocabulary: WordPieces, question: Sequence[int], *, limit: int = 128) -> Text:
    """`[CLS] question ? [MASK] [SEP]`; a long question loses its end, never the mark and the mask.

    (The original cuts them off with the end.)
    """
    asked = [*vocabulary.question_mark, vocabulary.mask]
    return single(vocabulary, [*cut_single(question, limit - len(asked)), *asked])


def question_and_answer(
    vocabulary: WordPieces, question: Sequence[int], answer: Sequence[int], draws: Draws, *, limit: int = 128
) -> Text:
    """`[CLS] question ? answer [SEP]` with words masked: those of the question, the mark and the answer alike."""
    pieces = [*question, *vocabulary.question_mark, *answer]
    return masked(vocabulary, single(vocabulary, cut_single(pieces, limit)), draws)


def answer_pieces(vocabulary: WordPieces, answer: str, *, spelling: AnswerSpelling = "words") -> list[int]:
    """The pieces of an answer; "published" spells it letter by letter, as the original does (`red`: `r e d`)."""
    if spelling == "published":
        return vocabulary.split(" ".join(answer))
    if spelling == "words":
        return vocabulary.split(answer)
    raise ValueError(f'answer spelling {spelling!r} is unknown: choose "words" or "published"')


def draw_answer(valid_answers: Sequence[str], draws: Draws) -> str:
    """One of the answers that people gave; those given more often are drawn more often.

    Raises:
        ValueError: there is none.
    """
    if not valid_answers:
        raise ValueError("a question without answers cannot be read with one of them: leave it out of pre-training")
    return valid_answers[draws.randrange(len(valid_answers))]


def answer_scores(valid_answers: Sequence[str], numbers: Mapping[str, int]) -> dict[int, float]:
    """Score of each answer's number: 0.3 for each person who gave it, at most 1; `<unk>` has none.

    Args:
        valid_answers: with repeats, one a person.
        numbers: the answer list; an answer that is not in it counts as `<unk>`.
    """
    unknown = numbers.get(UNKNOWN)
    counts = Counter(numbers.get(answer, unknown) for answer in valid_answers)
    return {
        number: min(float(np.float32(count) * _SHARE), 1.0)
        for number, count in counts.items()
        if number is not None and number != unknown
    }


def dense(scores: Mapping[int, float], size: int) -> NDArray[np.float32]:
    """Scores by number -> one for each of `size` answers."""
    row = np.zeros(size, np.float32)
    row[list(scores)] = list(scores.values())
    return row
