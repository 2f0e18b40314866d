"""BLEU, ROUGE-L and CIDEr against arithmetic by hand and against pycocoevalcap and ModelScope's ciderD."""

import contextlib
import io
import json
import math
import pickle
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.bleu import BleuStatistics, bleu, bleu_statistics
from metrics.cider import DocumentFrequency, cider, cider_of
from metrics.overlap import NgramOverlap
from metrics.ptb_tokenizer import ptb_tokenize
from metrics.rouge import rouge_l
from tests.conftest import SHARED, needs_shared
from tests.metrics.originals import modelscope_cider_d

Corpus = tuple[list[str], list[list[str]]]


def random_corpus(seed: int, images: int = 60) -> Corpus:
    """Captions of few words, so that n-grams match often; some empty, some of one word."""
    generator = random.Random(seed)
    words = "a dog runs red ball on the grass 3\u00a01/2 <eos> café".split(" ")

    def caption() -> str:
        return " ".join(generator.choices(words, k=generator.choice([0, 1, 2, 5, 9, 14])))

    references = [[caption() for _ in range(generator.randint(1, 5))] for _ in range(images)]
    return [caption() if generator.random() < 0.8 else of_image[0] for of_image in references], references


def photographs() -> Corpus:
    records = json.loads((SHARED / "data/flickrstyle/val.json").read_text(encoding="utf-8"))
    references = [ptb_tokenize([record["comment"], *record.get("additional_comments", ())]) for record in records]
    candidates = [of_image[-1] for of_image in references[1:] + references[:1]]
    return candidates, references


CORPORA = [
    pytest.param(lambda: random_corpus(1), id="random"),
    pytest.param(lambda: random_corpus(2, images=2), id="two-images"),
    pytest.param(photographs, id="photographs", marks=needs_shared),
]


def keyed(corpus: Corpus) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    candidates, references = corpus
    return dict(enumerate(references)), {row: [candidate] for row, candidate in enumerate(candidates)}


def statistics(candidate: str, references: list[str]) -> list[BleuStatistics]:
    return bleu_statistics(NgramOverlap([candidate], [references]))


def test_bleu_by_hand() -> None:
    # "a b c" against "a b d": 2 of 3 words, 1 of 2 pairs, 0 of 1 triple; equal length.
    [one] = statistics("a b c", ["a b d", "a x y z z z"])
    assert one == BleuStatistics((2, 1, 0, 0), (3, 2, 1, 0), 3, 3)
    assert bleu([one])[:2] == pytest.approx([2 / 3, math.sqrt(2 / 3 * 1 / 2)])
    # "a a a" against "a b": clipped to one of three; longer than the reference, so no penalty.
    assert bleu(statistics("a a a", ["a b"]))[0] == pytest.approx(1 / 3)
    # "a" against "a b": all correct, brevity penalty exp(1 - 2/1).
    assert bleu(statistics("a", ["a b"]))[0] == pytest.approx(math.exp(-1))
    # references of 1 and 3 words are as close to 2: the shorter counts
    assert statistics("a b", ["a b c", "a", "a b c d e"])[0].reference_length == 1


def test_rouge_by_hand() -> None:
    # LCS("a c e", "a b c d e") = 3: precision 1, recall 3/5.
    assert rouge_l("a c e", ["a b c d e"]) == pytest.approx(2.44 * 0.6 / (0.6 + 1.44))
    assert rouge_l("x", ["a b"]) == 0
    assert rouge_l("a b", ["a b"]) == 1


def test_cider_by_hand() -> None:
    # Two images, ln 2 the weight of what only one has. "a b" of image 1 against its own reference "a b": a and b each
    # weigh ln 2, cosine 1 for words and for pairs, 0 for triples and fours: 10 * 2/4.
    assert cider(["a b", "c"], [["a b"], ["c d"]])[0] == pytest.approx(5.0)
    # "c" against "c d": cosine of words ln2*ln2 / (ln2 * sqrt(2)*ln2) = 1/sqrt(2), of the rest 0; one pair apart.
    expected = 10 / 4 / math.sqrt(2) * math.exp(-1 / 72)
    assert cider(["a b", "c"], [["a b"], ["c d"]])[1] == pytest.approx(expected)


def test_one_image_alone_scores_zero() -> None:
    assert cider(["a b"], [["a b"]]) == [0.0]


@pytest.mark.parametrize("corpus", CORPORA)
def test_bleu_as_pycocoevalcap(corpus: Callable[[], Corpus]) -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    candidates, references = corpus()
    theirs, theirs_each = Bleu(4).compute_score(*keyed((candidates, references)), verbose=0)
    ours = bleu_statistics(NgramOverlap(candidates, references))
    assert bleu(ours) == pytest.approx(theirs, abs=1e-9, rel=0)
    assert [bleu([one]) for one in ours] == [
        pytest.approx(each, abs=1e-9, rel=0) for each in zip(*theirs_each, strict=True)
    ]


@pytest.mark.parametrize("corpus", CORPORA)
def test_rouge_as_pycocoevalcap(corpus: Callable[[], Corpus]) -> None:
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = corpus()
    theirs, theirs_each = Rouge().compute_score(*keyed((candidates, references)))
    ours = [rouge_l(one, of_image) for one, of_image in zip(candidates, references, strict=True)]
    assert ours == pytest.approx(theirs_each, abs=1e-9, rel=0)
    assert sum(ours) / len(ours) == pytest.approx(theirs, abs=1e-9, rel=0)


@pytest.mark.parametrize("corpus", CORPORA)
def test_cider_as_pycocoevalcap_and_modelscope(corpus: Callable[[], Corpus]) -> None:
    from pycocoevalcap.cider.cider import Cider

    candidates, references = corpus()
    gts, res = keyed((candidates, references))
    ours = cider(candidates, references)
    for theirs, theirs_each in (
        Cider().compute_score(gts, res),
        modelscope_cider_d().compute_score(
            gts, [{"image_id": row, "caption": caption} for row, caption in res.items()]
        ),
    ):
        assert ours == pytest.approx(theirs_each, abs=1e-9, rel=0)
        assert sum(ours) / len(ours) == pytest.approx(theirs, abs=1e-9, rel=0)


@pytest.mark.parametrize("corpus", CORPORA)
def test_cider_d_of_a_corpus_as_modelscope(corpus: Callable[[], Corpus], tmp_path: Path) -> None:
    candidates, references = corpus()
    table = DocumentFrequency.of(references[: len(references) // 2] + random_corpus(5)[1])
    path = tmp_path / "words.p"
    path.write_bytes(pickle.dumps({"ref_len": table.documents, "document_frequency": defaultdict(float, table.counts)}))
    gts, res = keyed((candidates, references))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = modelscope_cider_d(df=str(path)).compute_score(
            gts, [{"image_id": row, "caption": caption} for row, caption in res.items()]
        )[1]
    assert cider(candidates, references, table) == pytest.approx(theirs, abs=1e-9, rel=0)


def test_several_candidates_share_their_references() -> None:
    candidates, references = random_corpus(3)
    frequency = DocumentFrequency.of([["a dog runs"], ["the ball"], ["a red ball"]])
    set_of = [row % len(references) for row in range(3 * len(references))]
    said = [candidates[(7 * row) % len(candidates)] for row in range(len(set_of))]
    together, alone = NgramOverlap(said, references, set_of), NgramOverlap(said, [references[i] for i in set_of])
    assert bleu_statistics(together) == bleu_statistics(alone)
    assert cider_of(together, frequency) == pytest.approx(cider_of(alone, frequency), abs=1e-9)


EACH_ONE = DocumentFrequency(math.e, {})  # every n-gram has idf 1


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_ngrams_that_other_captions_have_as_well_count_less(weight: float) -> None:
    def score(candidate: str, others: list[str]) -> float:
        return cider([candidate], [["a b"]], EACH_ONE, [others], weight)[0]

    # words of "a b" weigh (w, 1), its pair 1; a caption of one word is one shorter
    one_shorter, norm = math.exp(-1 / 72), math.hypot(weight, 1)
    assert score("a", ["a c"]) == pytest.approx(2.5 * one_shorter * weight / norm)
    assert score("b", ["a c"]) == pytest.approx(2.5 * one_shorter / norm)
    assert score("a b", ["a c", "c"]) == pytest.approx(5)  # words and pairs of "a b" itself
    assert score("b c", ["a c"]) == pytest.approx(2.5 / (math.sqrt(2) * norm))  # "c", of the others alone, costs 1
    assert score("a", []) == score("b", []) == pytest.approx(2.5 * one_shorter / math.sqrt(2))
    # nothing sets the reference apart: with 0 nothing is like it
    assert score("a b", ["b a b"]) == pytest.approx(5 if weight else 0)


def test_other_captions_are_those_of_the_candidate_s_own_set() -> None:
    candidates, references = random_corpus(3)
    others = [[text for of_set in references[i + 1 : i + 3] for text in of_set] for i in range(len(references))]
    together = cider(candidates, references, EACH_ONE, others, 0.5)
    alone = [
        cider([one], [own], EACH_ONE, [rest], 0.5)[0]
        for one, own, rest in zip(candidates, references, others, strict=True)
    ]
    plain = cider(candidates, references, EACH_ONE)
    assert together == pytest.approx(alone, abs=1e-9)
    assert together != pytest.approx(plain, abs=0.01)
    assert cider(candidates, references, EACH_ONE, others) == pytest.approx(plain, abs=1e-9)
    assert cider(candidates, references, EACH_ONE, [[] for _ in others], 0.5) == pytest.approx(plain, abs=1e-9)


words = st.lists(st.sampled_from("abcde"), max_size=8).map(" ".join)


@settings(max_examples=60)
@given(words, st.lists(words, min_size=1, max_size=4), st.randoms())
def test_bounds_and_order(candidate: str, references: list[str], shuffler: random.Random) -> None:
    table = DocumentFrequency.of([["a b c"], ["d e"], ["e e a"]])
    shuffled = references[:]
    shuffler.shuffle(shuffled)
    for score in (
        lambda refs: rouge_l(candidate, refs),
        lambda refs: cider([candidate], [refs], table)[0] / 10,
        lambda refs: bleu(statistics(candidate, refs))[3],
    ):
        assert -1e-12 <= score(references) <= 1 + 1e-9
        assert score(references) == pytest.approx(score(shuffled), abs=1e-12)
    assert rouge_l(candidate, [*references, candidate]) == pytest.approx(1.0)
