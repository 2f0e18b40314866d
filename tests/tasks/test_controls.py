"""The controls: other requests, and the best constant caption, against the plain CIDEr."""

import random

import pytest

from data.samples import Sample
from metrics.cider import cider
from tasks.captioning import controls
from tasks.captioning.controls import constant_captions, constant_cider, in_next_style

WORDS = "a the dog cat runs sits on in red blue park mat".split()
STYLES = ("Sweet", "Cynical", "Humorous")


def sample(image: str, style: str, *references: str) -> Sample:
    return Sample(f"{image}.jpg", image, style, references[0], references)


def sentences(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, 9))) for _ in range(count)]


# --- wrong style -----------------------------------------------------------------------------------------------------


def test_every_style_is_replaced_by_the_one_after_it() -> None:
    asked = [sample("1", style, "a dog") for style in ("Humorous", "Sweet", "Cynical")]
    wrong = in_next_style(asked, STYLES)
    assert [s.style for s in wrong] == ["Sweet", "Cynical", "Humorous"]
    assert [(s.image, s.references) for s in wrong] == [(s.image, s.references) for s in asked]


def test_one_style_has_no_wrong_one() -> None:
    with pytest.raises(ValueError, match="at least two styles, but there is only Sweet"):
        in_next_style([sample("1", "Sweet", "a dog")], ["Sweet"])


def test_a_style_that_is_not_listed_has_no_next_one() -> None:
    with pytest.raises(ValueError, match="'Grumpy' is not in the style list"):
        in_next_style([sample("1", "Grumpy", "a dog")], STYLES)


# --- constant caption ------------------------------------------------------------------------------------------------


def test_the_indexed_references_give_cider_with_one_caption_for_all() -> None:
    rng = random.Random(1)
    references = [sentences(seed, rng.randint(1, 4)) for seed in range(20)]
    # Captions of the corpus, other ones, with words it never saw, of a single word, empty.
    candidates = [references[0][0], *sentences(99, 10), "zebra a dog zebra", "dog", ""]
    expected = [sum(cider([candidate] * 20, references)) / 20 for candidate in candidates]
    assert max(expected) > 0.3
    assert list(constant_cider(candidates, references)) == pytest.approx(expected, abs=1e-9)


def test_the_best_caption_of_each_style_is_found() -> None:
    asked = [sample(str(i), "Sweet", f"a dog sits on the {word} mat") for i, word in enumerate(["red", "blue", "old"])]
    asked += [
        sample(str(i), "Cynical", f"another cat who {word} in a park") for i, word in enumerate(["runs", "hides"])
    ]
    training = [
        sample("t1", "Sweet", "two birds sing"),
        sample("t2", "Sweet", "A dog sits on the mat ."),
        sample("t3", "Cynical", "a dog sits on the mat"),
        sample("t4", "Cynical", "Another cat who sleeps in a park"),
        sample("t5", "Humorous", "ignored"),
    ]
    assert constant_captions(training, asked, seed=1) == {
        "Sweet": "A dog sits on the mat .",
        "Cynical": "Another cat who sleeps in a park",
    }


def test_many_candidates_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "CANDIDATES", 2)
    asked = [sample("1", "Sweet", "a dog runs in the park", "a dog")]
    training = [sample(str(i), "Sweet", caption) for i, caption in enumerate(sentences(3, 30))]
    chosen = {constant_captions(training, asked, seed=seed)["Sweet"] for seed in range(8)}
    assert len(chosen) > 1
    assert constant_captions(training, asked, seed=4) == constant_captions(training[::-1], asked, seed=4)


def test_a_style_without_training_captions_is_named() -> None:
    with pytest.raises(ValueError, match="'Cynical' has no training captions"):
        constant_captions([sample("t", "Sweet", "a dog")], [sample("1", "Cynical", "a cat")], seed=1)
