"""Captions that are hard to tokenize: words and the pieces of hard_pieces.json put together at random, seeded."""

import json
import random
from pathlib import Path

_PIECES = json.loads(Path(__file__).with_name("hard_pieces.json").read_text(encoding="utf-8"))
WORDS: list[str] = _PIECES["words"]
EDGES: list[str] = _PIECES["edges"]
KINDS: dict[str, list[str]] = _PIECES["kinds"]


def _piece(generator: random.Random, kind: str) -> str:
    """A hard piece: as it is (mostly), with a mark at one end, or glued to another piece."""
    piece = generator.choice(KINDS[kind])
    fate = generator.random()
    if fate < 0.15:
        piece = generator.choice(EDGES) + piece
    elif fate < 0.35:
        piece += generator.choice(EDGES)
    elif fate < 0.42:
        piece += generator.choice(KINDS[generator.choice(list(KINDS))])
    elif fate < 0.48:
        piece = generator.choice([piece.upper(), piece.capitalize(), piece.lower()])
    return piece


def hard_cases(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs of (kind, caption): plain words around one to three hard pieces of that kind."""
    generator = random.Random(seed)
    cases = []
    for index in range(count):
        kind = list(KINDS)[index % len(KINDS)]
        parts: list[str] = []
        for _ in range(generator.randint(1, 3)):
            parts += generator.choices(WORDS, k=generator.randint(0, 3)) + [_piece(generator, kind)]
        parts += generator.choices(WORDS, k=generator.randint(0, 2))
        cases.append((kind, " ".join(parts)))
    return cases
