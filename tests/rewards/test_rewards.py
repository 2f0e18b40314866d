"""Each reward by hand, and what the registry says to names it does not know."""

import math
from pathlib import Path

import numpy as np
import pytest

from data.run_folder import RunFolder
from data.samples import Row, Split
from metrics.cider import DocumentFrequency, cider
from metrics.style_classifier import StyleClassifier
from rewards.base import END_WORD, Candidate, RewardBatch, register
from rewards.catalogue import FACTORIES, build_rewards
from rewards.document_frequency import table_of_corpus
from rewards.form import ending, repetition
from rewards.resources import Resources
from rewards.style import StyleReward
from rewards.text import BleuReward, CiderDReward, RougeReward
from rewards.variety import OveruseReward, variety

REFERENCES = ["a dog runs on the grass <eos>", "the brown dog is running <eos>"]
OTHERS = ["a happy dog looks for love <eos>"]
TABLE = DocumentFrequency.of([REFERENCES, ["a cat sits <eos>"], ["a man runs on the beach <eos>"]])


def batch(*tokens: str, references=REFERENCES, soft=(), style="Sweet") -> RewardBatch:
    """One group of candidates."""
    candidates = [Candidate(text.removesuffix(END_WORD).strip(), text.endswith(END_WORD)) for text in tokens]
    return RewardBatch([candidates], [list(tokens)], [list(references)], [list(soft)], [style], ["image1"])


def split_of(captions: dict[str, dict[str, list[str]]]) -> Split:
    """{image: {style: captions}} -> a split."""
    styles = sorted({style for of_image in captions.values() for style in of_image})
    rows = [
        Row(f"{image}.jpg", image, style, caption)
        for image, of_image in captions.items()
        for style, texts in of_image.items()
        for caption in texts
    ]
    return Split("train", styles, rows)


def test_cider_d_is_the_metric_over_the_corpus_with_the_end_as_a_word():
    candidates = ["a dog runs on the grass <eos>", "a dog runs on the grass", "a cat <eos>"]
    expected = cider(candidates, [REFERENCES] * 3, TABLE)
    assert CiderDReward(TABLE)(batch(*candidates)) == [pytest.approx(expected)]
    assert expected[0] > expected[1] > expected[2]  # a caption that breaks off is worth less


def test_soft_references_count_their_weight():
    one = "a happy dog <eos>"
    for kind in (CiderDReward(TABLE, 0.25), BleuReward(0.25), RougeReward(0.25)):
        [[own]], [[soft]] = kind.score([[one]], [REFERENCES]), kind.score([[one]], [OTHERS])
        assert own != soft
        assert kind(batch(one, soft=OTHERS)) == [[pytest.approx(0.75 * own + 0.25 * soft)]]
        assert kind(batch(one)) == [[own]]  # an image in one style alone loses nothing


def test_what_sets_a_style_apart_counts_more():
    styled, plain = "a happy dog looks <eos>", "a dog runs <eos>"
    asked = batch(styled, plain, references=OTHERS, soft=REFERENCES)
    [[more, less]] = CiderDReward(TABLE, shared_weight=0.3)(asked)
    [[before, and_less]] = CiderDReward(TABLE)(asked)
    assert more / less > before / and_less > 1  # "a happy dog" is worth more beside "a dog"
    expected = cider([styled, plain], [OTHERS] * 2, TABLE, [REFERENCES] * 2, 0.3)
    assert [more, less] == pytest.approx(expected)
    # beside soft references: those are compared as ever
    soft = CiderDReward(TABLE).score([[styled, plain]], [REFERENCES])[0]
    mixed = CiderDReward(TABLE, 0.25, 0.3)(asked)
    assert mixed == [pytest.approx((0.75 * np.array(expected) + 0.25 * soft).tolist())]


def test_off_it_changes_no_bit_and_a_lone_style_loses_nothing():
    candidates = ["a happy dog looks <eos>", "a dog runs"]
    groups = [candidates] * 2
    exactly = np.reshape(cider([*candidates] * 2, [REFERENCES] * 2 + [OTHERS] * 2, TABLE), (2, 2)).tolist()
    both = RewardBatch([[]] * 2, groups, [REFERENCES, OTHERS], [OTHERS, REFERENCES], ["x", "y"], ["1", "1"])
    assert CiderDReward(TABLE, shared_weight=1.0)(both) == CiderDReward(TABLE)(both)
    assert CiderDReward(TABLE)(both) == [pytest.approx(row) for row in exactly]
    lone = batch(*candidates)
    assert CiderDReward(TABLE, shared_weight=0.3)(lone) == [pytest.approx(CiderDReward(TABLE)(lone)[0])]


def test_bleu_by_hand():
    # "a dog runs <eos>" against "a dog runs on the grass <eos>" (7) and "the brown dog is running <eos>" (6): words
    # 4/4, pairs (2 + 1)/(3 + 1), triples (1 + 1)/(2 + 1), quadruples (0 + 1)/(1 + 1); shorter than the closest, 6.
    expected = math.exp(1 - 6 / 4) * (1 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert BleuReward()(batch("a dog runs <eos>"))[0][0] == pytest.approx(expected)
    assert BleuReward()(batch(REFERENCES[0], "zebra", "")) == [[1.0, 0.0, 0.0]]


def test_rouge_by_hand():
    # common with the first: a, dog, runs, <eos> of 4 and of 7
    recall, beta = 4 / 7, 1.2
    expected = (1 + beta**2) * recall / (recall + beta**2)
    assert RougeReward()(batch("a dog runs <eos>")) == [[pytest.approx(expected)]]


def test_ending_by_hand():
    references = ["one two three four five <eos>", "one two three four five six seven eight nine <eos>"]  # 6 and 10
    whole, broken = "one two three four <eos>", "one two three four"
    short, long = "<eos>", " ".join(["word"] * 16) + " <eos>"
    values = ending(batch(whole, broken, short, long, references=references))
    # 5 lies between 0.5 · 6 and 1.5 · 10; 1 is 2 less than 3, of 6; 17 is 2 more than 15, of 10
    assert values == [[0.0, -1.0, pytest.approx(-2 / 6), pytest.approx(-2 / 10)]]


def test_variety_by_hand():
    tokens = [["a dog runs on grass", "waiting for the bus"], ["a dog runs on grass", "so odd"], ["a dog runs on"]]
    candidates = [[Candidate(text, True) for text in group] for group in tokens]
    images = ["a", "a", "b"]  # the first two groups are two styles of one image
    found = variety(RewardBatch(candidates, tokens, [[""]] * 3, [[]] * 3, ["x", "y", "x"], images))
    assert found == [[-0.5, 0.0], [-0.5, 0.0], [-1.0]]
    assert variety(batch("a dog runs on grass", "a dog runs on grass")) == [[0.0, 0.0]]  # one image


def test_overuse_by_hand():
    tokens = [["a dog to fly", "a dog"], ["a cat to fly", "a cat"], ["a man to fly", "so odd"], ["a dog to fly", "x"]]
    candidates = [[Candidate(text, True) for text in group] for group in tokens]
    styles = ["Humorous", "Humorous", "Humorous", "Romantic"]
    asked = RewardBatch(candidates, tokens, [[""]] * 4, [[]] * 4, styles, list("abcd"))
    found = OveruseReward({"Humorous": {("to", "fly"): 0.1, ("a", "dog"): 0.9}})(asked)
    # half of the other images' humorous candidates end so, a tenth of people's do
    assert found[0] == [pytest.approx(-0.4), 0.0]
    assert found[2] == [pytest.approx(-0.4), 0.0]
    assert found[3] == [0.0, 0.0]  # the one caption of its style
    assert OveruseReward({})(asked)[0] == [pytest.approx(-0.5), 0.0]


def test_repetition_by_hand():
    # pairs: "a b", "b a", "a b" again; none in one word
    assert repetition(batch("a b a b", "a b c", "a", "")) == [[pytest.approx(-1 / 3), 0.0, 0.0, 0.0]]


def test_style_margin_is_positive_in_the_asked_style_and_clipped():
    texts = ["my sweet love", "a sweet heart", "oh so boring", "boring and dull"]
    classifier = StyleClassifier.fit(texts, ["Sweet", "Sweet", "Cynical", "Cynical"], features="words")
    [[sweet, dull]] = StyleReward(classifier)(batch("sweet love <eos>", "so boring <eos>"))
    assert sweet > 0 > dull
    classifier.weights *= 1000
    assert StyleReward(classifier)(batch("sweet love <eos>", "so boring <eos>")) == [[5.0, -5.0]]
    enough = StyleReward(classifier, most=1.0)
    assert enough(batch("sweet love <eos>", "so boring <eos>")) == [[1.0, -5.0]]
    with pytest.raises(ValueError, match="no caption in style Gloomy.*such as Cynical, Sweet"):
        StyleReward(classifier)(batch("x", style="Gloomy"))


# --- building --------------------------------------------------------------------------------------------------------


@pytest.fixture
def split() -> Split:
    sweet, cynical = ["what a sweet dog", "my lovely dog"], ["another boring dog", "a dull dog"]
    return split_of({f"i{i}": {"Sweet": sweet, "Cynical": cynical} for i in range(8)})


def test_only_what_is_asked_for_is_built(split: Split, tmp_path: Path):
    build_rewards(["rouge-l", "ending"], Resources(split, RunFolder(tmp_path)))
    assert list(tmp_path.iterdir()) == []
    build_rewards(["cider-d"], Resources(split, RunFolder(tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == ["document_frequency_with_end.pkl"]
    build_rewards(["style"], Resources(split, RunFolder(tmp_path)))
    assert (tmp_path / "style_reward.npz").exists()


def test_every_registered_reward_can_be_built_and_scores_a_group(split: Split, tmp_path: Path):
    rewards = build_rewards(FACTORIES, Resources(split, RunFolder(tmp_path)))
    assert set(rewards) >= {
        "cider-d",
        "bleu-4",
        "rouge-l",
        "ending",
        "repetition",
        "style",
        "style-enough",
        "variety",
        "overuse",
    }
    for name, reward in rewards.items():
        values = np.asarray(reward(batch("a sweet dog <eos>", "a dull dog")))
        assert values.shape == (1, 2), name
        assert np.isfinite(values).all(), name


def test_an_unknown_reward_is_named_with_its_neighbours(split: Split, tmp_path: Path):
    with pytest.raises(ValueError, match=r"scst\.rewards: no reward is called cidr-d; did you mean cider-d\? there"):
        build_rewards(["cidr-d"], Resources(split, RunFolder(tmp_path)))


def test_a_reward_of_one_s_own(split: Split, tmp_path: Path):
    @register("brevity")
    def brevity(resources: Resources):
        return lambda batch: [[-float(len(text)) for text in group] for group in batch.tokens]

    try:
        assert build_rewards(["brevity"], Resources(split, RunFolder(tmp_path)))["brevity"](batch("abc")) == [[-3.0]]
    finally:
        del FACTORIES["brevity"]


def test_a_table_of_other_data_is_refused(split: Split, tmp_path: Path):
    other = tmp_path / "other.pkl"
    table_of_corpus(other, [["zwei alte Boote am Ufer"]], end_word=END_WORD)
    resources = Resources(split, RunFolder(tmp_path), document_frequency_file=str(other))
    with pytest.raises(ValueError, match="other.pkl holds the document frequencies of other training captions"):
        build_rewards(["cider-d"], resources)
