"""Decoding, against plain-Python searches over teacher-forced passes."""

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.ofa import OFAModel
from models.ofa.constraints import forbidden_tokens
from models.ofa.generation import beam_search, draw, filter_logits, sample, sample_encoded
from tests.models.nano import (
    BOS,
    EOS,
    PAD,
    Batch,
    Settings,
    allowed_next,
    close,
    log_probs,
    nano_model,
    prompt_batch,
    repeats,
    row_of,
)

VOCAB = 40


@pytest.fixture(scope="module")
def model() -> OFAModel:
    return nano_model(VOCAB)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return prompt_batch()


# --- beam search -----------------------------------------------------------------------------------------------------

LIVE = (2, 3, 4, 5, 6)  # eos and four words: 85 captions of at most three words
VOCAB_WIDE = 200  # fairseq's beam is at most the vocabulary: this one leaves room for every caption


def exhaustive(
    model: OFAModel, row: Batch, *, max_len_b: int, min_len: int, ngram: int, length_penalty: float
) -> list[tuple[float, list[int]]]:
    """All captions over `LIVE`, best first."""
    found: list[tuple[float, list[int]]] = []
    prefixes = [([BOS], 0.0)]
    for step in range(max_len_b + 1):
        longer = []
        for prefix, total in prefixes:
            scores = log_probs(model, row, prefix)[-1]
            allowed = allowed_next(prefix, step, VOCAB_WIDE, min_len=min_len, max_len_b=max_len_b, ngram=ngram)
            for token in sorted(allowed.intersection(LIVE)):
                score = total + float(scores[token])
                if token == EOS:
                    found.append((score / (step + 1) ** length_penalty, [*prefix[1:], EOS]))
                else:
                    longer.append(([*prefix, token], score))
        prefixes = longer
    return sorted(found, reverse=True)


@pytest.fixture
def narrow_model(monkeypatch: pytest.MonkeyPatch) -> OFAModel:
    """A model whose decoder never writes a token outside `LIVE`."""
    model = nano_model(VOCAB_WIDE, seed=5)
    step = model.decoder.step

    def narrowed(*args) -> Tensor:
        # log-probabilities, so that a second softmax over what is left would show
        scores = step(*args).log_softmax(-1)
        dead = torch.ones(VOCAB_WIDE, dtype=torch.bool).index_fill(0, torch.tensor(LIVE), False)
        rest = scores.masked_fill(~dead, -torch.inf).logsumexp(-1)
        scores = scores.masked_fill(dead, -1e6)
        scores[:, PAD] = rest  # the mass of the dead tokens rests on pad, which is never written
        return scores

    monkeypatch.setattr(model.decoder, "step", narrowed)
    return model


@pytest.mark.parametrize(
    ("min_len", "ngram", "length_penalty"), [(0, 0, 1.0), (1, 0, 0.0), (2, 2, 1.0), (0, 1, 2.0), (3, 0, 1.0)]
)
def test_a_beam_wider_than_the_search_space_finds_every_caption_in_order(
    narrow_model: OFAModel, batch: Batch, min_len: int, ngram: int, length_penalty: float
) -> None:
    found = beam_search(
        narrow_model,
        **batch,
        beam_size=150,
        max_len_b=3,
        min_len=min_len,
        no_repeat_ngram_size=ngram,
        length_penalty=length_penalty,
    )
    for row in range(2):
        expected = exhaustive(
            narrow_model, row_of(batch, row), max_len_b=3, min_len=min_len, ngram=ngram, length_penalty=length_penalty
        )
        live = [h for h in found[row] if h.score > -1000]
        assert [h.tokens.tolist() for h in live] == [tokens for _, tokens in expected]
        assert [h.score for h in live] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_a_wider_beam_finds_nothing_worse_here(model: OFAModel, batch: Batch) -> None:
    settings: Settings = {"max_len_b": 8, "min_len": 1, "no_repeat_ngram_size": 3}
    narrow, wide = (beam_search(model, **batch, beam_size=size, **settings) for size in (1, 8))
    assert all(w[0].score >= n[0].score - 1e-6 for n, w in zip(narrow, wide, strict=True))
    assert all(len(hypotheses) == 8 for hypotheses in wide)


def greedy(model: OFAModel, row: Batch, *, max_len_b: int, min_len: int, ngram: int) -> list[int]:
    prefix = [BOS]
    for step in range(max_len_b + 1):
        scores = log_probs(model, row, prefix)[-1]
        allowed = allowed_next(prefix, step, VOCAB, min_len=min_len, max_len_b=max_len_b, ngram=ngram)
        prefix.append(max(allowed, key=lambda token: float(scores[token])))
        if prefix[-1] == EOS:
            break
    return prefix[1:]


@pytest.mark.parametrize(("min_len", "ngram"), [(1, 3), (4, 2), (0, 0)])
def test_one_beam_is_greedy(model: OFAModel, batch: Batch, min_len: int, ngram: int) -> None:
    found = beam_search(model, **batch, beam_size=1, max_len_b=7, min_len=min_len, no_repeat_ngram_size=ngram)
    for row in range(3):
        expected = greedy(model, row_of(batch, row), max_len_b=7, min_len=min_len, ngram=ngram)
        assert [h.tokens.tolist() for h in found[row]] == [expected]


def test_prompts_do_not_disturb_each_other(model: OFAModel, batch: Batch) -> None:
    settings: Settings = {"beam_size": 4, "max_len_b": 8, "min_len": 1, "no_repeat_ngram_size": 3}
    together = beam_search(model, **batch, **settings)
    for row in range(3):
        alone: Batch = {"patch_images": None, "patch_masks": None} | row_of(batch, row)
        (expected,) = beam_search(model, **alone, **settings)
        assert [h.tokens.tolist() for h in together[row]] == [h.tokens.tolist() for h in expected]
        assert [h.score for h in together[row]] == pytest.approx([h.score for h in expected], abs=1e-5)


def test_prompts_of_one_image_share_it(model: OFAModel, batch: Batch) -> None:
    settings: Settings = {"beam_size": 3, "max_len_b": 6, "min_len": 1, "no_repeat_ngram_size": 3}
    ids, index = batch["input_ids"], torch.tensor([1, 0, 1])
    shared = beam_search(model, ids, batch["patch_images"], None, image_index=index, **settings)
    repeated = beam_search(model, ids, batch["patch_images"][index], None, **settings)
    assert [[h.tokens.tolist() for h in r] for r in shared] == [[h.tokens.tolist() for h in r] for r in repeated]


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"min_len": 9}])
def test_beam_settings_out_of_range_are_refused(model: OFAModel, batch: Batch, wrong: Settings) -> None:
    settings: Settings = {"beam_size": 2, "max_len_b": 8, "min_len": 1, "no_repeat_ngram_size": 0} | wrong
    with pytest.raises(ValueError, match="beam_size >= 1 and min_len <= max_len_b"):
        beam_search(model, **batch, **settings)


# --- n-grams ---------------------------------------------------------------------------------------------------------


@given(
    prefixes=st.integers(1, 9).flatmap(
        lambda length: st.lists(st.lists(st.integers(0, 3), min_size=length, max_size=length), min_size=1, max_size=4)
    ),
    size=st.integers(0, 5),
)
def test_forbidden_tokens_equal_a_plain_loop(prefixes: list[list[int]], size: int) -> None:
    found = forbidden_tokens(torch.tensor(prefixes), size)
    assert [set(row) - {-1} for row in found.tolist()] == [repeats(prefix, size) for prefix in prefixes]


# --- sampling --------------------------------------------------------------------------------------------------------


def drawn(model: OFAModel, batch: Batch, seed: int = 0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return sample(model, **batch, generator=generator, **({"num_samples": 4, "max_len_b": 8} | settings))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "top_k": 5}, {"top_p": 0.7, "no_repeat_ngram_size": 2}])
def test_log_probs_of_samples_are_those_of_teacher_forcing(model: OFAModel, batch: Batch, settings: Settings) -> None:
    samples = drawn(model, batch, **settings)
    tokens = samples.tokens.flatten(0, 1)
    inputs = torch.cat([torch.full_like(tokens[:, :1], BOS), tokens[:, :-1]], dim=1)
    logits = model(decoder_input_ids=inputs, encoder_outputs=samples.encoder_outputs).logits
    expected = logits.log_softmax(-1).gather(2, tokens[..., None]).squeeze(2).masked_fill(tokens == PAD, 0.0)
    close(samples.log_probs.flatten(0, 1), expected)


def test_samples_end_once_and_are_padded_after_it(model: OFAModel, batch: Batch) -> None:
    samples = drawn(model, batch, num_samples=50, min_len=2)
    lengths = set()
    for caption, scores in zip(samples.tokens.flatten(0, 1), samples.log_probs.flatten(0, 1), strict=True):
        end = caption.tolist().index(EOS)
        lengths.add(end)
        assert PAD not in caption[:end]
        assert (caption[end + 1 :] == PAD).all()
        assert (scores[end + 1 :] == 0).all()
        assert (scores[: end + 1] < 0).all()
    assert min(lengths) >= 2
    assert max(lengths) <= 8
    assert len(lengths) > 1, "captions of one length cannot show the padding"


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}])
def test_without_randomness_samples_are_greedy(model: OFAModel, batch: Batch, settings: Settings) -> None:
    samples = drawn(model, batch, min_len=2, no_repeat_ngram_size=2, **settings)
    for row in range(3):
        expected = greedy(model, row_of(batch, row), max_len_b=8, min_len=2, ngram=2)
        for caption in samples.tokens[row].tolist():
            assert [token for token in caption if token != PAD] == expected


def test_a_generator_repeats_its_draws(model: OFAModel, batch: Batch) -> None:
    first, again, other = (drawn(model, batch, seed).tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_samples_follow_the_models_distribution(model: OFAModel, batch: Batch) -> None:
    samples = drawn(model, {key: value[:1] for key, value in batch.items()}, num_samples=4000, max_len_b=1, min_len=0)
    expected = log_probs(model, row_of(batch, 0), [BOS])[0].exp()
    expected[PAD] = 0
    counts = torch.bincount(samples.tokens[0, :, 0], minlength=VOCAB) / 4000
    # The standard deviation of a share over 4000 draws is at most 0.008.
    torch.testing.assert_close(counts, expected / expected.sum(), rtol=0, atol=0.04)


def test_filtering_keeps_the_nucleus_of_the_tempered_distribution() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    # Before the third token 0.75 of the mass is taken: 0.75 < 0.8, so it stays; before the fourth 0.9 >= 0.8.
    nucleus = filter_logits(logits, temperature=1.0, top_k=0, top_p=0.8)
    assert nucleus.isfinite().tolist() == [[True, True, True, False]]
    # At temperature 0.5 the shares are squares: 25 : 6.25 : 2.25 : 1, and the first two hold 0.906.
    tempered = filter_logits(logits, temperature=0.5, top_k=0, top_p=0.8)
    assert tempered.isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, temperature=1.0, top_k=1, top_p=1.0).isfinite().tolist() == [[True] + 3 * [False]]


def test_draws_follow_the_probabilities_and_never_meet_a_zero() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 4.0, 0.0])  # not normalised, zeros at both ends
    drawn = draw(weights.expand(8000, -1), torch.Generator().manual_seed(0))
    counts = drawn.bincount(minlength=6) / 8000
    # three deviations of a share of 8000 draws are less than 0.017
    torch.testing.assert_close(counts, weights / 8, rtol=0, atol=0.017)
    assert counts[weights == 0].sum() == 0


def test_the_first_sample_can_be_the_greedy_one(model: OFAModel, batch: Batch) -> None:
    encoded = model.encoder(**batch)
    greedy = sample_encoded(model, encoded, num_samples=1, max_len_b=5, temperature=0).tokens[:, 0]
    torch.manual_seed(0)
    drawn = sample_encoded(model, encoded, num_samples=4, max_len_b=5, greedy_first=True).tokens
    for row in range(greedy.shape[0]):
        end = int(greedy[row].ne(PAD).sum())
        assert drawn[row, 0, :end].tolist() == greedy[row, :end].tolist()
        assert drawn[row, 0, end:].eq(PAD).all()
    assert any(drawn[row, 1].tolist() != drawn[row, 0].tolist() for row in range(greedy.shape[0]))


@pytest.mark.parametrize(
    "wrong", [{"num_samples": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"min_len": 9}]
)
def test_sampling_settings_out_of_range_are_refused(model: OFAModel, batch: Batch, wrong: Settings) -> None:
    with pytest.raises(ValueError, match="sampling needs"):
        drawn(model, batch, **wrong)


# --- transformers' own generate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 4])
def test_generate_of_transformers_runs_and_agrees(model: OFAModel, batch: Batch, beams: int) -> None:
    generated = cast(Any, model).generate(
        **batch,
        num_beams=beams,
        do_sample=False,
        max_length=10,  # bos, eight words, eos
        min_new_tokens=2,  # a word, eos
        no_repeat_ngram_size=3,
        suppress_tokens=[PAD],
    )
    assert generated[:, 0].tolist() == [BOS] * 3
    ours = beam_search(model, **batch, beam_size=beams, max_len_b=8, min_len=1, no_repeat_ngram_size=3)
    if beams == 1:
        written = [[token for token in row if token != PAD] for row in generated[:, 1:].tolist()]
        assert written == [row[0].tokens.tolist() for row in ours]
    else:  # the two keep finished beams by different rules: only the form is the same
        assert all(EOS in row for row in generated.tolist())
