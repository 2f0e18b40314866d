"""Objects that captions name and pictures do not have."""

import pytest

from metrics.chair import Hallucinations, ObjectNames, chair, hallucinations

NAMES = ObjectNames(
    {"dog": ["dog", "puppy"], "hot dog": ["hot dog"], "bus": ["bus"], "knife": ["knife"], "person": ["person", "man"]}
)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("a dog and two puppies", ["dog", "dog"]),
        ("a man eats hot dogs", ["person", "hot dog"]),
        ("people on buses with knives", ["person", "bus", "knife"]),
        ("hot", []),
        ("", []),
    ],
)
def test_names_plurals_and_the_longest_name(tokens, expected):
    assert NAMES.find(tokens) == expected


def test_chair_by_hand():
    captions = ["a dog on a bus", "a man with a knife", "nothing here"]
    references = [["a puppy"], ["a person"], ["x"]]
    found = hallucinations(captions, references, [set(), {"knife"}, set()], NAMES)
    assert found == [
        Hallucinations(("dog", "bus"), ("bus",)),  # the reference names the dog, nobody the bus
        Hallucinations(("person", "knife"), ()),
        Hallucinations((), ()),
    ]
    assert chair(found) == (1 / 4, 1 / 3)
    assert chair([]) == (0.0, 0.0)
