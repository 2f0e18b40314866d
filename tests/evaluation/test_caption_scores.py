import random
from typing import Any

import pytest

from evaluation.caption_scores import METRICS, CaptionScores, score_captions, score_styles
from evaluation.table import render_table
from metrics.bleu import bleu
from metrics.cider import DocumentFrequency, cider
from metrics.ptb_tokenizer import ptb_tokenize
from tests.conftest import needs_java
from tests.metrics.hard_cases import WORDS, hard_cases

WITHOUT_JAVA: dict[str, Any] = {"scorer": "stylecap", "meteor": False, "spice": False, "java_timeout_s": 1}
STYLES = ["Sweet", "Cynical", "Sweet", "Factual", "Cynical", "Sweet"]
PREDICTIONS = [
    "A dog runs on the beach.",
    "Another man who can't cook",
    "two children play in the snow",
    "a man rides a horse",
    "",
    "A dog runs on the grass, happily!",
]
REFERENCES = [
    ["A dog is running on the beach .", "The dog runs along a beach"],
    ["Yet another man who can't cook."],
    ["Two kids play in snow", "two children play happily", "Children in the snow"],
    ["A man rides a brown horse", "Man on a horse"],
    ["Nothing to see here", "who cares"],
    ["A happy dog runs on grass"],
]


def core(scores: CaptionScores) -> dict[str, float | None]:
    return {name: scores.scores[name] for name in METRICS if name not in ("METEOR", "SPICE")}


def test_all_metrics_have_a_key_and_what_was_not_asked_for_is_none() -> None:
    result = score_captions(PREDICTIONS, REFERENCES, **WITHOUT_JAVA)
    assert tuple(result.scores) == METRICS
    assert result.scores["METEOR"] is result.scores["SPICE"] is None
    assert not result.notes
    assert set(result.each) == set(METRICS) - {"METEOR", "SPICE"}
    for name in ("ROUGE-L", "CIDEr", "CIDEr-D"):
        assert result.scores[name] == pytest.approx(sum(result.each[name]) / len(PREDICTIONS))
    assert result.scores["BLEU-4"] == bleu(result.bleu_statistics)[3]
    assert result.each["BLEU-1"][4] == pytest.approx(0, abs=1e-6)


def test_each_style_as_a_run_over_it_alone() -> None:
    result = score_styles(PREDICTIONS, REFERENCES, STYLES, **WITHOUT_JAVA)
    assert list(result.styles) == ["Cynical", "Factual", "Sweet"]
    assert result.overall.scores == score_captions(PREDICTIONS, REFERENCES, **WITHOUT_JAVA).scores
    for style, scores in result.styles.items():
        rows = [row for row, name in enumerate(STYLES) if name == style]
        alone = score_captions([PREDICTIONS[row] for row in rows], [REFERENCES[row] for row in rows], **WITHOUT_JAVA)
        assert scores == alone
    assert list(result.table()) == ["all", "Cynical", "Factual", "Sweet"]


def test_a_corpus_table_changes_cider_d_only() -> None:
    table = DocumentFrequency.of([["a dog runs"], ["the snow"], ["a horse"]])
    plain = score_captions(PREDICTIONS, REFERENCES, **WITHOUT_JAVA)
    result = score_captions(PREDICTIONS, REFERENCES, frequency=table, **WITHOUT_JAVA)
    assert {name for name, score in core(result).items() if score != plain.scores[name]} == {"CIDEr-D"}
    tokenized = [ptb_tokenize(of_image) for of_image in REFERENCES]
    assert result.each["CIDEr-D"] == cider(ptb_tokenize(PREDICTIONS), tokenized, table)


@needs_java
def test_the_original_tool_chain_gives_the_same() -> None:
    generator = random.Random(3)
    captions = [caption for _, caption in hard_cases(200, seed=5)]
    references = [captions[row : row + 5] for row in range(0, 200, 5)]
    # ours are glued from the references' words, so that there is something to match
    predictions = [
        " ".join(generator.sample(of_image[0].split(" "), k=min(6, len(of_image[0].split(" ")))) + WORDS[:2])
        for of_image in references
    ]
    references[0][0] += "\rwith a line break"
    styles = [generator.choice("AB") for _ in predictions]
    ours = score_styles(predictions, references, styles, **WITHOUT_JAVA)
    theirs = score_styles(predictions, references, styles, **{**WITHOUT_JAVA, "scorer": "pycocoevalcap"})
    for a, b in ((ours.overall, theirs.overall), *((ours.styles[s], theirs.styles[s]) for s in "AB")):
        assert core(a) == pytest.approx(core(b), abs=1e-9, rel=0)
        for name in a.each:
            assert a.each[name] == pytest.approx(b.each[name], abs=1e-9, rel=0)
    assert max(ours.overall.each["CIDEr"]) > 0.1


def test_an_empty_caption_scores_nothing_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    result = score_captions(PREDICTIONS, REFERENCES, ids=list("abcdef"), **WITHOUT_JAVA)
    assert result.each["CIDEr"][4] == 0
    assert "empty, and scores 0, for e" in caplog.text


@pytest.mark.parametrize(
    ("predictions", "references", "changes", "message"),
    [
        ([], [], {}, "no predictions"),
        (["a"], [], {}, "1 predictions but 0 references"),
        (["a", None], [["a"], ["b"]], {"ids": ["x.jpg", "y.jpg"]}, r"no prediction for y\.jpg"),
        (["a"] * 9, [["a"]] + [[]] * 8, {}, "no references for 1, 2, 3, 4, 5 and 3 more"),
        (["a"], [[" "]], {"ids": ["x.jpg"]}, r"no references for x\.jpg"),
        (["a"], [["a"]], {"scorer": "coco"}, 'unknown scorer "coco"; it is one of stylecap, pycocoevalcap'),
    ],
)
def test_what_cannot_be_scored_is_named(
    predictions: list[str], references: list[list[str]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_captions(predictions, references, **(WITHOUT_JAVA | changes))


def test_the_original_tool_chain_without_java_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="needs Java; install a JVM"):
        score_captions(["a"], [["a"]], **{**WITHOUT_JAVA, "scorer": "pycocoevalcap"})


def test_table() -> None:
    rows: dict[str, dict[str, float | None]] = {
        "all": {"BLEU-1": 0.5, "CIDEr": 1.2346, "SPICE": None},
        "Humorous": {"BLEU-1": 0.06, "CIDEr": 0.0},
    }
    assert render_table(rows).split("\n") == [
        "          BLEU-1  CIDEr  SPICE",
        "all         50.0  123.5      -",
        "Humorous     6.0    0.0      -",
    ]
    assert render_table({}) == ""
