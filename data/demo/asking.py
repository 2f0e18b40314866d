"""Questions about demo scenes, and sentences about two of them.

They are balanced: over all scenes every answer to a wording is as likely as its others, so a question without its
picture tells nothing. What a picture shows does not tell either: of four questions about it each has another kind of
answer.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from data.demo.scenes import COLOURS, KINDS, PLACES, Scene

# From the subject to the other object, and back.
_FORTH = {"left": "left", "above": "above", "on": "on top", "front": "in front"}
_BACK = {"left": "right", "above": "below", "on": "under", "front": "behind"}
_PHRASES = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "on top": "on top of",
    "under": "under",
    "in front": "in front of",
    "behind": "behind",
}
RELATIONS = tuple(_PHRASES)
_PLACES = {"beach": "on the beach", "meadow": "in the meadow", "night": "at night", "snow": "in the snow"}
YES, NO = "yes", "no"


class Asked(NamedTuple):
    """A question and its answer; `answer_type` is as in VQA, `question_type` one of `TYPES`."""

    text: str
    answer: str
    answer_type: str
    question_type: str


def ask(scene: Scene, question_type: str, rng: random.Random) -> Asked:
    """A question of one of `TYPES` about a scene."""
    text, answer, answer_type = _ASK[question_type](scene, rng)
    return Asked(text, answer, answer_type, question_type)


def relation(scene: Scene, kind: str) -> str:
    """How the object of this kind stands to the other one; one of `RELATIONS`."""
    return (_FORTH if kind == scene.subject else _BACK)[scene.relation]


def objects(scene: Scene) -> tuple[tuple[str, str], tuple[str, str]]:
    """(kind, colour) of the subject and of the other object."""
    return (scene.subject, scene.subject_colour), (scene.other, scene.other_colour)


def sentences(scene: Scene) -> tuple[list[str], ...]:
    """What can truly be said of this and a like picture, in four sorts: objects, colours, kinds, relations."""
    shown = objects(scene)
    return (
        [f"both pictures show a {colour} {kind}." for kind, colour in shown],
        [f"something is {colour} in both pictures." for _, colour in shown],
        [f"there is a {kind} in both pictures." for kind, _ in shown],
        [f"in both pictures a {kind} is {_PHRASES[relation(scene, kind)]} something." for kind, _ in shown],
    )


def _colour(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    kind, colour = rng.choice(objects(scene))
    return rng.choice((f"what color is the {kind}?", f"which color does the {kind} have?")), colour, "other"


def _count(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    """How many of the two objects are of either colour, or either kind: 0, 1 and 2 are equally frequent."""
    at = rng.randrange(2)  # kinds, or colours
    shown = [one[at] for one in objects(scene)]
    rest = [name for name in (KINDS, COLOURS)[at] if name not in shown]
    number = rng.randrange(3)
    named = rng.sample(shown, number) + rng.sample(rest, 2 - number)
    rng.shuffle(named)
    article = "a " if at == 0 else ""
    return f"how many things are {article}{named[0]} or {article}{named[1]}?", str(number), "number"


def _relation(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    (kind, _), (other, _) = rng.sample(objects(scene), 2)
    wording = rng.choice(("where is the {} relative to the {}?", "how does the {} stand to the {}?"))
    return wording.format(kind, other), relation(scene, kind), "other"


def _yes_no(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    true = rng.random() < 0.5
    text = rng.choice((_is_coloured, _is_there, _stands, _is_place))(scene, true, rng)
    return text, YES if true else NO, "yes/no"


def _is_coloured(scene: Scene, true: bool, rng: random.Random) -> str:
    (kind, colour), (_, other) = rng.sample(objects(scene), 2)
    return f"is the {kind} {colour if true else _wrong(colour, COLOURS, other, rng)}?"


def _is_there(scene: Scene, true: bool, rng: random.Random) -> str:
    """Of the wrong ones half have the right kind, half the right colour."""
    (kind, colour), (other_kind, other_colour) = rng.sample(objects(scene), 2)
    if not true and rng.random() < 0.5:
        colour = _wrong(colour, COLOURS, other_colour, rng)
    elif not true:
        kind = _wrong(kind, KINDS, other_kind, rng)
    return f"is there a {colour} {kind}?"


def _stands(scene: Scene, true: bool, rng: random.Random) -> str:
    (kind, _), (other, _) = rng.sample(objects(scene), 2)
    name = relation(scene, kind)
    name = name if true else rng.choice([wrong for wrong in RELATIONS if wrong != name])
    return f"is the {kind} {_PHRASES[name]} the {other}?"


def _is_place(scene: Scene, true: bool, rng: random.Random) -> str:
    place = scene.place if true else rng.choice([place for place in PLACES if place != scene.place])
    return f"is this {_PLACES[place]}?"


def _wrong(right: str, names: tuple[str, ...], other: str, rng: random.Random) -> str:
    """Half the time what the other object has, else anything that is not right."""
    return other if rng.random() < 0.5 else rng.choice([name for name in names if name != right])


_ASK: dict[str, Callable[[Scene, random.Random], tuple[str, str, str]]] = {
    "colour": _colour,
    "count": _count,
    "relation": _relation,
    "yes/no": _yes_no,
}
TYPES = tuple(_ASK)
