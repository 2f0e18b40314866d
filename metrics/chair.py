"""CHAIR (Rohrbach et al., arXiv:1809.02156): objects that a caption names and the picture does not have.

CHAIRi = named objects that are not there / named objects; CHAIRs = share of captions that name one. As in the paper an
object is there if it is annotated or a reference names it. Names are those given, with plain plurals; the longest one
wins, so that a "hot dog" is no dog.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Hallucinations:
    """Of one caption: `named`, its objects with repetitions, and those of them that are `absent`."""

    named: tuple[str, ...]
    absent: tuple[str, ...]


class ObjectNames:
    """Finds objects in tokenized captions.

    Args:
        names: object -> what it is called, in lower case, its words separated by blanks.
    """

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        self._object: dict[tuple[str, ...], str] = {}
        for thing, called in names.items():
            for name in called:
                words = name.lower().replace("_", " ").split()
                for last in plurals(words[-1]) if words else ():
                    self._object.setdefault((*words[:-1], last), thing)
        self._longest = max(map(len, self._object), default=0)

    def find(self, tokens: str) -> list[str]:
        """The objects that a tokenized caption names, in order."""
        words, found, start = tokens.lower().split(), [], 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                thing = self._object.get(tuple(words[start : start + length]))
                if thing is not None:
                    found.append(thing)
                    start += length
                    break
            else:
                start += 1
        return found


def plurals(word: str) -> list[str]:
    """A word and its plain plurals: dog, dogs; bus, buses; knife, knives; person, people."""
    special = {"person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice"}
    forms = [word, special.get(word, f"{word}s")]
    if word.endswith(("s", "x", "ch", "sh", "o")):
        forms.append(f"{word}es")
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        forms.append(f"{word[:-1]}ies")
    if word.endswith("fe"):
        forms.append(f"{word[:-2]}ves")
    if word.endswith("f"):
        forms.append(f"{word[:-1]}ves")
    return forms


def hallucinations(
    captions: Sequence[str], references: Sequence[Sequence[str]], objects: Sequence[Collection[str]], names: ObjectNames
) -> list[Hallucinations]:
    """Of each tokenized caption, given the tokenized references and annotated objects of its picture."""
    found = []
    for caption, own, annotated in zip(captions, references, objects, strict=True):
        there = {*annotated, *(thing for reference in own for thing in names.find(reference))}
        named = names.find(caption)
        found.append(Hallucinations(tuple(named), tuple(thing for thing in named if thing not in there)))
    return found


def chair(found: Sequence[Hallucinations]) -> tuple[float, float]:
    """(CHAIRi, CHAIRs); 0 where nothing is named."""
    named = sum(len(one.named) for one in found)
    absent = sum(len(one.absent) for one in found)
    return absent / max(1, named), sum(bool(one.absent) for one in found) / max(1, len(found))
