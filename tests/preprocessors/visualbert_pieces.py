"""A vocabulary of a few words, for VisualBERT's inputs."""

from models.wordpiece import load_wordpiece
from preprocessors.visualbert.pieces import WordPieces

ENTRIES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] ? . a the is red dog cat on mat b c d e r din ##ing ##table "
    "casey riley jessie jackie why he says that who to table blue x y"
).split()


def vocabulary() -> WordPieces:
    return WordPieces.of(load_wordpiece(ENTRIES))


class Fixed:
    """Gives the numbers that it is made with, whichever are asked for."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)

    def randint(self, a: int, b: int) -> int:
        return int(self.numbers.pop(0))

    def randrange(self, stop: int, /) -> int:
        return int(self.numbers.pop(0))
