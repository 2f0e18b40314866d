"""Names and ids that are written in several ways."""

import pytest

from data.names import canonical_style, fold, identifier


@pytest.mark.parametrize("name", ["Old Fashioned", " old  fashioned ", "OLD\tFASHIONED"])
def test_case_and_blanks_are_forgiven(name: str):
    assert canonical_style(["Old Fashioned", "Sweet"])(name) == "Old Fashioned"
    assert fold(name) == "old fashioned"


def test_two_styles_that_differ_in_case_stay_two():
    canonical = canonical_style(["Cool", "cool"])
    assert [canonical(name) for name in ("Cool", "cool", "COOL", "Sour")] == ["Cool", "cool", "COOL", "Sour"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), ("7", "7"), (" 7 ", "7"), (7.0, "7"), ("a b", "a b"), ("007", "007")],
)
def test_an_id_is_a_text(value: object, expected: str):
    assert identifier(value) == expected


@pytest.mark.parametrize("value", [True, 7.5, float("nan"), float("inf"), None, [7], {}])
def test_what_is_no_id(value: object):
    assert identifier(value) is None
