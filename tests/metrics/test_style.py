"""Style, fluency and diversity, by hand and by property."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.run_folder import RunFolder
from evaluation.style_report import style_report, summary
from metrics.cider import cider
from metrics.diversity import distinct, diversity, repeated_share
from metrics.fluency import KneserNey
from metrics.style import (
    accuracies,
    calibration_error,
    caption_distance,
    judgement_of_humans,
    sensitivity,
    style_cider,
)
from metrics.style_classifier import StyleClassifier
from rewards.kept_classifier import style_evaluator
from tasks.captioning.requests import in_many_styles
from tests.rewards.test_rewards import split_of

words = st.lists(st.sampled_from("a the dog cat runs sits".split()), max_size=6).map(" ".join)

# --- style -----------------------------------------------------------------------------------------------------------


def test_accuracies_by_hand():
    evaluator = StyleClassifier.fit(
        ["sweet love", "sweet heart", "dull bore", "dull grey", "joke pun", "joke fun"],
        ["Sweet", "Sweet", "Cynical", "Cynical", "Funny", "Funny"],
        features="words",
    )
    texts = ["sweet love", "sweet sweet", "dull bore", "joke fun"]
    found = accuracies(evaluator, texts, ["Sweet", "Sweet", "Sweet", "Cynical"])
    assert found["accuracy"] == 0.5
    assert found["top5"] == 1.0  # of three styles
    assert found["per_style"] == {"Sweet": pytest.approx(2 / 3), "Cynical": 0.0}
    assert found["macro_accuracy"] == pytest.approx(1 / 3)
    assert found["confusion"] == {"styles": ["Cynical", "Funny", "Sweet"], "counts": [[0, 1, 0], [0, 0, 0], [1, 0, 2]]}


def test_top_5_counts_the_five_likeliest():
    styles = [f"s{i}" for i in range(7)]
    weights = np.zeros((7, 2**16), dtype=np.float32)
    evaluator = StyleClassifier(styles, "words", weights, -np.arange(7, dtype=np.float32), "")
    assert [accuracies(evaluator, ["x"], [style])["top5"] for style in styles] == [1, 1, 1, 1, 1, 0, 0]


def test_calibration_error_by_hand():
    # confidence .9 and right in 1 of 2; confidence .6 and right in 1 of 1
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert calibration_error(probabilities, np.array([0, 1, 1])) == pytest.approx((0.8 + 0.4) / 3)


def test_caption_distance_by_hand():
    assert caption_distance("a dog runs", "a dog runs") == 0
    assert caption_distance("a dog", "the cat") == 1
    assert caption_distance("a dog runs fast", "a dog sits") == pytest.approx(1 - 2 * 2 / 7)
    assert caption_distance("", "") == 0


@given(words, words)
def test_distance_is_symmetric_and_between_0_and_1(first, second):
    distance = caption_distance(first, second)
    assert distance == caption_distance(second, first)
    assert 0 <= distance <= 1
    assert (distance == 0) == (first.split() == second.split())


def test_sensitivity_by_hand():
    images = ["1", "1", "1", "2", "2", "3"]
    captions = ["a b", "a b", "c d", "x", "x", "alone"]
    # image 1: distances 0, 1, 1; image 2: 0; image 3 has one caption
    assert sensitivity(images, captions) == {"distance": pytest.approx(1 / 3), "ignored": 0.5, "images": 2}
    assert sensitivity(["1", "2"], ["a", "b"]) is None


def test_style_cider_is_higher_for_captions_in_their_own_style():
    images = ["1", "1", "2", "2"]
    references = [["a sweet dog"], ["a dull dog"], ["a sweet cat"], ["a dull cat"]]
    right = style_cider(images, [of_image[0] for of_image in references], references)
    swapped = style_cider(images, ["a dull dog", "a sweet dog", "a dull cat", "a sweet cat"], references)
    assert right is not None
    assert swapped is not None
    assert right["own"] == pytest.approx(swapped["others"])
    assert right["difference"] == pytest.approx(-swapped["difference"])
    assert right["difference"] > 0
    assert style_cider(["1", "2"], ["a", "b"], [["a"], ["b"]]) is None


def test_style_cider_takes_document_frequencies_from_images():
    from metrics.cider import DocumentFrequency

    images, references = ["1", "1", "2"], [["a sweet dog"], ["a dull dog"], ["a cat"]]
    found = style_cider(images, ["a sweet dog", "a dull dog", "a cat"], references)
    table = DocumentFrequency.of([["a sweet dog", "a dull dog"], ["a cat"]])
    expected = cider(["a sweet dog", "a dull dog"], references[:2], table)
    assert found is not None
    assert found["own"] == pytest.approx(sum(expected) / 2)


# --- fluency ---------------------------------------------------------------------------------------------------------


def test_kneser_ney_by_hand():
    # Bigrams of "a b", "a c": <s>a 2, ab 1, b</s> 1, ac 1, c</s> 1. Different words before: a 1, b 1, c 1, </s> 2.
    model = KneserNey(["a b", "a c"], order=2, discount=0.5)
    unigram_b = 0.5 / 5 + 0.5 * 4 / 5 * (1 / 5)
    assert model.probability("b", ["a"]) == pytest.approx(0.5 / 2 + 0.5 * 2 / 2 * unigram_b)
    assert model.probability("b", ["never met"]) == pytest.approx(unigram_b)
    assert model.probability("zebra", ["a"]) == pytest.approx(0.5 * 2 / 2 * (0.5 * 4 / 5 * (1 / 5)))


@given(
    st.lists(words.filter(bool), min_size=1, max_size=6), st.lists(st.sampled_from("a dog zebra".split()), max_size=3)
)
def test_probabilities_of_all_words_sum_to_one(captions, history):
    model = KneserNey(captions)
    vocabulary = {word for caption in captions for word in caption.split()} | {"</s>", "a word never met"}
    total = sum(model.probability(word, history) for word in vocabulary)
    assert total == pytest.approx(1)


def test_perplexity_prefers_what_was_read():
    model = KneserNey(["a dog runs on the grass", "a cat sits on the mat", "the dog sits"])
    assert model.perplexity(["a dog sits on the mat"]) < model.perplexity(["mat the on sits dog a"])
    one = math.exp(
        -sum(math.log(p) for p in (model.probability("a", ["<s>", "<s>"]), model.probability("</s>", ["<s>", "a"]))) / 2
    )
    assert model.perplexity(["a"]) == pytest.approx(one)
    with pytest.raises(ValueError, match="needs captions"):
        KneserNey([])


# --- diversity -------------------------------------------------------------------------------------------------------


def test_diversity_by_hand():
    captions = ["a dog runs", "a dog runs", "a b a b"]
    found = diversity(captions, ["a dog runs", "the cat"])
    assert found["distinct-1"] == pytest.approx(4 / 10)
    assert found["distinct-2"] == pytest.approx(4 / 7)
    assert found["different"] == pytest.approx(2 / 3)
    assert found["repeated"] == pytest.approx((1 / 3) / 3)
    assert found["vocabulary"] == pytest.approx(3 / 5)
    assert found["copied"] == pytest.approx(2 / 3)
    assert diversity(captions)["copied"] is None
    assert distinct([""], 2) == 0
    assert repeated_share("word") == 0


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_report_has_all_parts_and_keeps_its_evaluator(tmp_path: Path):
    split = split_of(
        {f"i{i}": {"Sweet": [f"my lovely dog {i}"], "Cynical": [f"another boring dog {i}"]} for i in range(30)}
    )
    samples = split.requests()[:6]
    right = [sample.references[0] for sample in samples]
    report, named = style_report(samples, right, [True] * 6, split, RunFolder(tmp_path))
    assert named == [sample.style for sample in samples]
    assert report["style"]["accuracy"] == 1.0
    assert report["style"]["evaluator"]["accuracy"] == 1.0
    assert report["style"]["evaluator"]["captions"] == 6
    assert report["style"]["sensitivity"]["ignored"] == 0
    assert report["style"]["style_cider"]["difference"] > 0
    assert report["diversity"]["copied"] == 1.0
    assert report["fluency"]["perplexity"] == report["fluency"]["human_perplexity"]
    assert report["ended"] == 1.0
    assert (tmp_path / "style_evaluator.npz").exists()
    assert "style accuracy 100.0 (of human captions the evaluator names 100.0 rightly, " in summary(report)
    wrong, _ = style_report(samples, [right[row ^ 1] for row in range(6)], [False] * 6, split, RunFolder(tmp_path))
    assert wrong["style"]["accuracy"] == 0.0
    assert wrong["ended"] == 0.0


def test_without_training_captions_there_is_no_judge_of_style(tmp_path: Path):
    split = split_of({"i": {"Sweet": ["a dog"]}})
    report, named = style_report(split.requests(), ["a dog"], None, None, RunFolder(tmp_path))
    assert report["style"] is None
    assert report["ended"] is None
    assert named == [None]
    assert report["fluency"] is None
    assert summary(report).startswith("distinct-2")
    assert style_evaluator(RunFolder(tmp_path), split) is None  # one style cannot be told from another


def test_humans_are_judged_on_all_their_references():
    evaluator = StyleClassifier.fit(["sweet", "dull"], ["Sweet", "Dull"], features="words")
    split = split_of({"i": {"Sweet": ["sweet", "dull"], "Dull": ["dull"]}})
    found = judgement_of_humans(evaluator, split.requests())
    assert found["captions"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_accuracy"] == pytest.approx(3 / 4)


# --- one style an image ----------------------------------------------------------------------------------------------


def test_images_in_one_style_each_are_asked_for_in_several():
    samples = split_of({f"i{i}": {f"style {i}": ["a"]} for i in range(20)}).requests()
    styles = [sample.style for sample in samples]
    found = in_many_styles(samples, styles, images=5, styles_each=4, seed=1)
    by_image: dict[str, set[str]] = {}
    for sample in found:
        by_image.setdefault(sample.image_id, set()).add(sample.style)
    assert [len(names) for names in by_image.values()] == [4] * 5
    assert all(sample.image == f"{sample.image_id}.jpg" and not sample.references for sample in found)
    assert found == in_many_styles(samples, styles, images=5, styles_each=4, seed=1)
    assert len(in_many_styles(samples, styles, images=50, styles_each=400, seed=1)) == 20 * 20


def test_nothing_more_is_asked_where_the_split_shows_it_or_cannot():
    two = split_of({"i": {"Sweet": ["a"], "Dull": ["b"]}}).requests()
    one = split_of({"i": {"Sweet": ["a"]}}).requests()
    assert in_many_styles(two, ["Sweet", "Dull"], images=5, styles_each=2, seed=1) == []
    assert in_many_styles(one, ["Sweet"], images=5, styles_each=2, seed=1) == []
    assert in_many_styles(one, ["Sweet", "Dull"], images=0, styles_each=2, seed=1) == []


def test_a_report_of_one_style_an_image_has_a_sensitivity(tmp_path: Path):
    split = split_of({f"i{i}": {("Sweet", "Dull")[i % 2]: [f"a dog {i}"]} for i in range(40)})
    samples = split.requests()
    more = [("i0", "a dog"), ("i0", "a dog"), ("i1", "a dog"), ("i1", "my cat")]
    report, _ = style_report(samples, ["a dog"] * 40, None, split, RunFolder(tmp_path), more)
    assert report["style"]["sensitivity"] == {"distance": 0.5, "ignored": 0.5, "images": 2}
    assert report["style"]["style_cider"] is None
