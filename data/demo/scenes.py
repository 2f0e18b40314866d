"""What a demo image shows: two objects of different kind and colour, a relation, a place."""

from dataclasses import dataclass

KINDS = ("ball", "boat", "car", "cat", "fish", "house", "star", "tree")
COLOURS = ("blue", "green", "purple", "red", "white", "yellow")
# How the subject stands to the other object.
RELATIONS = ("left", "above", "on", "front")
PLACES = ("beach", "meadow", "night", "snow")

_PAIRS_OF_KINDS = len(KINDS) * (len(KINDS) - 1)
_PAIRS_OF_COLOURS = len(COLOURS) * (len(COLOURS) - 1)
SCENES = _PAIRS_OF_KINDS * _PAIRS_OF_COLOURS * len(RELATIONS) * len(PLACES)


@dataclass(frozen=True, slots=True)
class Scene:
    """`subject` and `other` are kinds; the subject is the left, the upper or the front one, as `relation` says."""

    subject: str
    subject_colour: str
    other: str
    other_colour: str
    relation: str
    place: str


def scene(number: int) -> Scene:
    """The scene with this number, in 0 .. SCENES - 1; different numbers are different scenes."""
    number, place = divmod(number, len(PLACES))
    number, relation = divmod(number, len(RELATIONS))
    kinds, colours = divmod(number, _PAIRS_OF_COLOURS)
    subject, other = _pair(KINDS, kinds)
    subject_colour, other_colour = _pair(COLOURS, colours)
    return Scene(subject, subject_colour, other, other_colour, RELATIONS[relation], PLACES[place])


def _pair(names: tuple[str, ...], number: int) -> tuple[str, str]:
    """The ordered pair of different names with this number."""
    first, second = divmod(number, len(names) - 1)
    return names[first], names[second + (second >= first)]
