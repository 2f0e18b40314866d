"""Scores of answers: values worked out by hand, and what is refused."""

import pytest

from metrics.answers import clevr, gqa, nlvr, vqa


@pytest.mark.parametrize(("matches", "share"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_counts_matches_without_each_annotator_in_turn(matches: int, share: float) -> None:
    answers = ["cat"] * matches + ["dog"] * (10 - matches)
    assert vqa.accuracy("cat", answers) == pytest.approx(share)


def test_vqa_normalises_only_where_the_answers_differ() -> None:
    assert vqa.accuracy("Yes", ["yes"] * 10) == 0
    assert vqa.accuracy("Yes", ["yes"] * 9 + ["no"]) == 1
    assert vqa.accuracy("Yes", ["yes"] * 10, rule="openvqa") == 1


def test_vqa_tables_are_by_type() -> None:
    cases = [
        vqa.Case("2", ["two"] * 5 + ["3"] * 5, "number", "how many"),
        vqa.Case("red", ["blue"] * 9 + ["red"], "other", "what"),
    ]
    found = vqa.vqa_scores(cases)
    assert (found.overall, found.per_answer_type) == (65.0, {"number": 100.0, "other": 30.0})
    assert found.per_question_type == {"how many": 100.0, "what": 30.0}


def test_vqa_refuses_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        vqa.vqa_scores([])
    with pytest.raises(ValueError, match="no answers"):
        vqa.accuracy("a", [])


def _gqa(key: str, answer: str, **changes: object) -> dict[str, dict[str, object]]:
    question: dict[str, object] = {
        "answer": answer,
        "question": "Is the ball red?",
        "isBalanced": True,
        "entailed": [],
        "groups": {"global": "color"},
        "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
        "semantic": [{"operation": "select", "argument": "ball (1)"}, {"operation": "exist", "argument": "?"}],
    }
    return {key: question | changes}


def test_gqa_numbers_of_three_questions() -> None:
    questions = (
        _gqa("1", "yes", entailed=["1", "2", "3"])
        | _gqa("2", "no", isBalanced=False)
        | _gqa("3", "red", types={"structural": "query", "semantic": "attr", "detailed": "categoryAttrC"})
    )
    choices = {"1": {"valid": ["yes", "no"], "plausible": ["yes"]}, "3": {"valid": ["red"], "plausible": ["red"]}}
    found = gqa.gqa_scores(questions, {"1": "yes", "2": "no", "3": "blue"}, choices)
    assert (found["accuracy"], found["binary"], found["open"]) == (50, 100, 0)
    assert (found["validity"], found["plausibility"]) == (50, 50)
    assert found["consistency"] == 50  # of the two that "1" entails, one is right
    # "yes" 1 expected and 1 given, "red" 1 expected and none given: (0 + 1) * 2 / 2 / 100
    assert found["distribution"] == pytest.approx(0.01)
    assert found["accuracyPerSteps"] == {"1": [50.0, 2]}  # "exist" is no step
    assert found["accuracyPerLength"] == {"4": [50.0, 2]}


def test_gqa_common_properties_have_their_own_choices() -> None:
    questions = _gqa("1", "color", types={"structural": "compare", "semantic": "attr", "detailed": "twoCommon"})
    assert gqa.gqa_scores(questions, {"1": "shape"}, {})["validity"] == 100


def test_gqa_without_global_groups_has_no_distance() -> None:
    assert gqa.gqa_scores(_gqa("1", "yes", groups={"global": None}), {"1": "no"})["distribution"] == 0


@pytest.mark.parametrize(
    ("changes", "predictions", "message"),
    [
        ({}, {}, "question 1: no prediction"),
        ({"entailed": ["2"]}, {"1": "yes"}, "question 1 entails 2, which is not there"),
        ({}, {"1": "yes"}, "question 1: it is not among the choices"),
    ],
)
def test_gqa_refusals(changes: dict[str, object], predictions: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gqa.gqa_scores(_gqa("1", "yes", **changes), predictions, {} if "choices" in message else None)


def test_nlvr2_sentences_are_consistent_only_with_every_pair_right() -> None:
    labels = {"dev-0-0-0": "True", "dev-0-1-0": "False", "dev-0-0-1": "True"}
    given = {"dev-0-0-0": "true", "dev-0-1-0": "true", "dev-0-0-1": "True", "dev-9-9-9": "True"}
    assert nlvr.nlvr2_scores(labels, given) == pytest.approx((2 / 3, 1 / 2))


def test_nlvr1_pictures_are_scored_one_by_one_and_sentences_whole() -> None:
    labels = {"7-0": "true", "8-0": "false"}
    given = {image: "true" for identifier in labels for image in nlvr.nlvr1_images("dev", identifier)}
    given["dev-8-0-3.png"] = "false"
    assert nlvr.nlvr1_image_scores("dev", labels, given) == pytest.approx((7 / 12, 1 / 2))


def test_nlvr_refusals() -> None:
    with pytest.raises(ValueError, match="a-0-0-0: no prediction"):
        nlvr.nlvr2_scores({"a-0-0-0": "True"}, {})
    with pytest.raises(ValueError, match="9-9: not among the examples"):
        nlvr.nlvr1_scores({"1-0": "true"}, {"1-0": "true", "9-9": "true"})
    with pytest.raises(ValueError, match="no examples"):
        nlvr.nlvr2_scores({}, {})


def test_clevr_families_and_the_papers() -> None:
    rows = (["1", "yes", "no"], ["1", "no", "no"], ["count", "equal_integer", "exist"])
    found = clevr.clevr_scores(*rows)
    assert {name: tuple(score) for name, score in found.items()} == {
        "Overall": (2, 3),
        "Count": (1, 1),
        "Exist": (1, 1),
        "Compare_Attribute": (0, 1),
    }
    assert "Compare_Numbers" in clevr.clevr_scores(*rows, families="paper")
    assert clevr.clevr_report(found).splitlines()[0] == "Overall : 2 / 3 = 66.67"


def test_clevr_refusals() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        clevr.clevr_scores(["1"], ["1", "2"], ["count"])
    with pytest.raises(ValueError, match="question 0: unknown function 'jump'"):
        clevr.clevr_scores(["1"], ["1"], ["jump"])
    with pytest.raises(ValueError, match="no questions"):
        clevr.clevr_scores([], [], [])
    with pytest.raises(ValueError, match="families is 'mine'"):
        clevr.clevr_scores(["1"], ["1"], ["count"], families="mine")
