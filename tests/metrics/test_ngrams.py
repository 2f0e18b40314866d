"""Counting n-grams in arrays, against counting tuples."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.ngrams import MAX_ORDER, CountedCaptions
from metrics.overlap import NgramOverlap

CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), max_size=7).map(" ".join), max_size=6)


def tuples(caption: str, order: int) -> Counter[tuple[str, ...]]:
    words = caption.split()
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


@settings(max_examples=60)
@given(CAPTIONS, st.randoms())
def test_counts_and_documents(captions: list[str], generator) -> None:
    counted = CountedCaptions(captions)
    assert counted.lengths.tolist() == [len(caption.split()) for caption in captions]
    document = np.array([generator.randrange(3) for _ in captions], dtype=np.int64)
    orders = list(counted.orders())
    assert [order.order for order in orders] == list(range(1, MAX_ORDER + 1))
    for order in orders:
        names = order.names()
        assert len(names) == len(set(names)) == order.different
        found: list[Counter[tuple[str, ...]]] = [Counter() for _ in captions]
        for caption, ngram, count in zip(*order.counts, strict=True):
            found[caption][names[ngram]] += count
        assert found == [tuples(caption, order.order) for caption in captions]
        documents = [[text for text, d in zip(captions, document, strict=True) if d == k] for k in range(3)]
        distinct = [{ngram for text in texts for ngram in tuples(text, order.order)} for texts in documents]
        expected = Counter(ngram for of_document in distinct for ngram in of_document)
        assert dict(zip(names, order.documents(order.counts, document), strict=True)) == expected


@settings(max_examples=60)
@given(CAPTIONS, st.lists(CAPTIONS.filter(bool), min_size=1, max_size=4), st.data())
def test_what_is_shared(candidates: list[str], references: list[list[str]], data) -> None:
    set_of = [data.draw(st.integers(0, len(references) - 1)) for _ in candidates]
    overlap = NgramOverlap(candidates, references, set_of)
    flat = [(row, text) for row, of_set in enumerate(references) for text in of_set]
    for order, size in zip(overlap.orders, range(1, 5), strict=True):
        names = order.names()
        found = [
            (order.candidates.caption[own], order.references.caption[other], names[order.candidates.ngram[own]])
            for own, other in zip(order.own, order.other, strict=True)
        ]
        assert all(order.candidates.ngram[order.own] == order.references.ngram[order.other])
        assert sorted(found) == sorted(
            (row, other, ngram)
            for row, candidate in enumerate(candidates)
            for other, (belongs, text) in enumerate(flat)
            if belongs == set_of[row]
            for ngram in tuples(candidate, size).keys() & tuples(text, size).keys()
        )
