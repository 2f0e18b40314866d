import importlib.util
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import json_query
from evaluation.json_query import query, run, with_jq, with_pyjq

PYJQ = importlib.util.find_spec("pyjq") is not None
needs_pyjq = pytest.mark.skipif(not PYJQ, reason="pyjq is not installed (make install EXTRAS=pyjq)")
each_engine = pytest.mark.parametrize("engine", [with_jq, pytest.param(with_pyjq, marks=needs_pyjq)])

METRICS = {"CIDEr": 0.25, "SPICE": None, "styles": {"Sweet": {"CIDEr": 0.5}, "Cynical": {"CIDEr": 1}}}
PREDICTIONS = [{"style": "Sweet", "caption": "ein schönes Bild"}, {"style": "Cynical", "caption": "again, a “dog”"}]
CASES = [
    (".CIDEr", METRICS, [0.25]),
    (".SPICE", METRICS, [None]),
    (".missing", METRICS, [None]),
    (".styles[].CIDEr", METRICS, [0.5, 1]),
    (".styles | to_entries | map({key, value: .value.CIDEr}) | from_entries", METRICS, [{"Sweet": 0.5, "Cynical": 1}]),
    ("[.styles[].CIDEr] | add / length", METRICS, [0.75]),
    ("del(.styles) | keys", METRICS, [["CIDEr", "SPICE"]]),
    ('.[] | select(.style == "Sweet") | .caption', PREDICTIONS, ["ein schönes Bild"]),
    ("map(.caption | length)", PREDICTIONS, [[16, 14]]),
    ('[.[] | .caption | test("DOG"; "i")]', PREDICTIONS, [[False, True]]),
    ("group_by(.style) | map(.[0].style)", PREDICTIONS, [["Cynical", "Sweet"]]),
    (".[] | [.style, .caption] | @csv", PREDICTIONS[1:], ['"Cynical","again, a “dog”"']),
    ("empty", PREDICTIONS, []),
    (".[2:]", PREDICTIONS, [[]]),
    ("nan, infinite", None, [None, 1.7976931348623157e308]),
]


@each_engine
@pytest.mark.parametrize(("program", "data", "expected"), CASES, ids=[program for program, _, _ in CASES])
def test_what_a_program_yields(engine, program, data, expected):
    results = run(engine, program, data)
    assert results == expected
    assert [type(result) for result in results] == [type(value) for value in expected]


@each_engine
@pytest.mark.parametrize(
    ("program", "data"),
    [(".[", {}), ("nothing_of_the_kind", {}), (".a.b", {"a": 1}), ('error("boom")', None), (".", {1, 2}), (" ", {})],
)
def test_a_failure_is_a_value_error_that_names_the_program(engine, program, data):
    with pytest.raises(ValueError, match="the jq program") as caught:
        run(engine, program, data)
    assert program.strip() in str(caught.value)


@each_engine
def test_not_a_number_is_no_json_data(engine):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run(engine, ".CIDEr", {"CIDEr": float("nan")})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abz_é", max_size=4), inner, max_size=4),
    max_leaves=12,
)
PROGRAMS = [".", "type", "tojson | fromjson", "[.[]?]", "[.] | sort", "[.[]?]|unique", "[.[]?]|group_by(type)", "add?"]


@needs_pyjq
@given(program=st.sampled_from(PROGRAMS), data=JSON)
def test_both_bindings_answer_alike(program, data):
    assert repr(run(with_pyjq, program, data)) == repr(run(with_jq, program, data))


def test_the_binding_that_was_asked_for_is_used(monkeypatch):
    asked = []

    def confined(work, given, **limits):
        asked.append(json.loads(given))
        return b"[]"

    monkeypatch.setattr(json_query, "confined", confined)
    for found in (None, "found"):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: found)
        assert query(".", None) == []
    assert asked == [[".", "null", "jq"], [".", "null", "pyjq"]]


def test_a_process_of_its_own_answers_alike():
    for program, data, expected in CASES:
        assert query(program, data) == expected


@pytest.mark.parametrize("program", ["repeat(.)", "def f: f; f", "[range(1e12)]"])
def test_a_program_that_never_ends_is_an_error(program, monkeypatch):
    monkeypatch.setattr(json_query, "SECONDS", 1.0)
    monkeypatch.setattr(json_query, "MEGABYTES", 256)
    with pytest.raises(ValueError, match=r"the jq program .* fails: (it takes more than|the process that read it)"):
        query(program, {})


def test_a_program_that_fails_elsewhere_says_what_it_says_here():
    with pytest.raises(ValueError, match="the jq program 'error\\(\"boom\"\\)' fails: .*boom"):
        query('error("boom")', None)
