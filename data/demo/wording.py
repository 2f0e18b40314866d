"""Captions of demo scenes: phrases per style, filled from the scene."""

import random
import re

from data.demo.scenes import Scene

# Phrases of each style with their weights. In a phrase, {x} and {y} are the objects in the order in which they are
# named, {r} is the relation from x to y, {p} the place, and [a|b] is either wording; one without {r} names the objects
# in the scene's order. The phrases of a style share their turns on purpose, as those of one writer do, and set them
# between the words for what is seen: so a caption in another style has the objects right and little else.
_PHRASES: dict[str, dict[str, int]] = {
    "Factual": {
        "a {x} is {r} a {y}": 3,
        "a {x} is {r} a {y} {p}": 3,
        "there is a {x} {r} a {y}": 2,
        "a {x} and a {y} are {p}": 2,
    },
    "Humorous": {
        "haha [this|the] silly {x} got lost {r} some giggling {y}": 4,
        "oops [this|the] silly {x} got lost {r} some giggling {y}": 2,
        "haha [this|the] silly {x} sneezed loudly {r} some giggling {y}": 2,
        "oops [this|the] silly {x} tickled some giggling {y} {p}": 2,
    },
    "Romantic": {
        "my [sweet|darling] {x} falls in love {r} her tender {y}": 4,
        "forever [sweet|darling] {x} falls in love {r} her tender {y}": 2,
        "my [sweet|darling] {x} dreams of kisses {r} her tender {y}": 2,
        "my [sweet|darling] {x} gently embraces her tender {y} {p}": 2,
    },
    "Poetic": {
        "o [lonely|silent] {x} drifting softly {r} an eternal {y}": 4,
        "whisper o [lonely|silent] {x} drifting softly {r} an eternal {y}": 2,
        "o [lonely|silent] {x} where shadows sleep {r} an eternal {y}": 2,
        "o [lonely|silent] {x} singing to an eternal {y} {p}": 2,
    },
    "Cynical": {
        "great just another [boring|useless] {x} stuck {r} that ugly {y}": 4,
        "sure just another [boring|useless] {x} stuck {r} that ugly {y}": 2,
        "just another [boring|useless] {x} nobody wanted {r} that ugly {y}": 2,
        "sure just another [boring|useless] {x} ruins that ugly {y} {p}": 2,
    },
}
STYLES = tuple(_PHRASES)
REFERENCES = 5  # captions of one image in one style

# Relation words from the subject to the other object, and back.
_FORTH = {"left": "left of", "above": "above", "on": "on top of", "front": "in front of"}
_BACK = {"left": "right of", "above": "below", "on": "under", "front": "behind"}
_PLACE = {"beach": "on the beach", "meadow": "in the meadow", "night": "at night", "snow": "in the snow"}


def describe(scene: Scene, style: str, rng: random.Random, count: int) -> list[str]:
    """`count` different captions of `scene` in `style`, 6 to 14 lower-case words each."""
    phrases = _PHRASES[style]
    captions: dict[str, None] = {}
    while len(captions) < count:
        (phrase,) = rng.choices(list(phrases), list(phrases.values()))
        captions[_fill(phrase, scene, rng)] = None
    return list(captions)


def _fill(phrase: str, scene: Scene, rng: random.Random) -> str:
    relation = _FORTH[scene.relation]
    first, second = f"{scene.subject_colour} {scene.subject}", f"{scene.other_colour} {scene.other}"
    # Mostly one way round, so that there is a best answer; sometimes the other, so that a relation is more than a word.
    if "{r}" in phrase and rng.random() < 0.2:
        relation, first, second = _BACK[scene.relation], second, first
    chosen = re.sub(r"\[(\w+)\|(\w+)\]", lambda match: match[rng.choice((1, 1, 2))], phrase)
    return chosen.format(x=first, y=second, r=relation, p=_PLACE[scene.place])
