"""Whether a caption ended: the same in an evaluation's beam search and in step 2's history, at the limit too."""

import torch
from torch import Tensor

from models.ofa.beams import Beams
from models.ofa.constraints import Constraints
from models.ofa.generation import beam_search, sample
from tests.models.nano import EOS, PAD, nano_model, prompt_batch
from trainers.rollouts import without_forced_end

LONGEST = 12


def ending_model(bias: float) -> torch.nn.Module:
    """One whose captions end after different numbers of tokens."""
    model = nano_model(40, seed=5)
    with torch.no_grad():
        model.encoder.embed_tokens.weight.mul_(3)
        model.encoder.embed_tokens.weight[EOS].mul_(bias)
    return model


def greedy_ends(model: torch.nn.Module, batch: dict, longest: int) -> list[bool]:
    """As step 2 logs it of its greedy captions."""
    drawn = sample(model, **batch, num_samples=1, max_len_b=longest + 1, temperature=0, min_len=1).tokens  # type: ignore[arg-type]
    return without_forced_end(drawn, longest, EOS, PAD).eq(EOS).any(-1).flatten().tolist()


def beam_ends(model: torch.nn.Module, batch: dict, longest: int) -> list[bool]:
    """As an evaluation counts it."""
    settings = {"beam_size": 1, "min_len": 1, "no_repeat_ngram_size": 0}
    found = beam_search(model, **batch, max_len_b=longest, **settings)  # type: ignore[arg-type]
    return [hypotheses[0].ended for hypotheses in found]


def test_eval_and_history_count_the_same_ends_at_every_limit():
    seen: set[bool] = set()
    for bias in (1.0, 2.0, 3.0, 5.0):
        model, batch = ending_model(bias), prompt_batch()
        for longest in range(1, LONGEST):
            ends = greedy_ends(model, batch, longest)
            assert beam_ends(model, batch, longest) == ends, (bias, longest)
            seen |= set(ends)
    assert seen == {True, False}


def test_the_models_own_end_at_the_limit_by_hand():
    limits = Constraints(min_len=1, max_len_b=2, no_repeat_ngram_size=2, pad=1, eos=2)
    # After two tokens, which is the limit: eos is likeliest; another word is; another is, but would repeat a pair.
    scores = torch.tensor([[0.0, 9.0, 5.0, 1.0, 2.0], [0.0, 9.0, 5.0, 6.0, 2.0], [0.0, 9.0, 5.0, 1.0, 6.0]])
    tokens = torch.tensor([[0, 3, 4], [0, 3, 4], [0, 0, 4]])
    assert limits.own_ends(scores, tokens).tolist() == [True, False, False]
    repeating = torch.tensor([[4, 4, 4]])
    assert limits.own_ends(scores[2:], repeating).tolist() == [True]
    assert scores[0, 1] == 9  # they are left as they were


def test_an_end_before_the_limit_is_the_models_own():
    like = torch.empty(0, dtype=torch.int64)
    beams = Beams(1, 1, 3, torch.zeros(1, dtype=torch.long), EOS, like)
    log_probs: Tensor = torch.full((1, 6), -5.0)
    log_probs[0, EOS] = -0.1
    assert beams.advance(log_probs, 1.0) is None
    [[hypothesis]] = beams.finished.best_first()
    assert (hypothesis.tokens.tolist(), hypothesis.ended) == ([EOS], True)


def test_a_cut_caption_is_told_from_one_that_ended_there():
    like = torch.empty(0, dtype=torch.int64)
    for own in (True, False):
        beams = Beams(1, 1, 0, torch.zeros(1, dtype=torch.long), EOS, like)
        log_probs = torch.full((1, 6), -torch.inf)
        log_probs[0, EOS] = -0.1
        beams.advance(log_probs, 1.0, torch.tensor([own]))
        assert beams.finished.best_first()[0][0].ended is own


def test_no_caption_ends_with_a_word_that_leads_to_another_by_hand():
    limits = Constraints(min_len=0, max_len_b=3, no_repeat_ngram_size=0, pad=1, eos=2, leading=((3,), (4, 5)))
    tokens = torch.tensor([[0, 3], [0, 4], [0, 5]])
    assert limits.apply(torch.zeros(3, 6), tokens)[:, 2].isneginf().tolist() == [True, False, False]
    tokens = torch.tensor([[0, 4, 5], [0, 5, 4], [0, 3, 5]])
    assert limits.apply(torch.zeros(3, 6), tokens)[:, 2].isneginf().tolist() == [True, False, False]
    # At the limit the end comes all the same, and is not the model's own.
    tokens, scores = torch.tensor([[0, 4, 4, 3]]), torch.tensor([[0.0, 0.0, 9.0, 1.0, 2.0, 3.0]])
    assert limits.apply(scores.clone(), tokens).argmax(-1).tolist() == [2]
    assert limits.own_ends(scores, tokens).tolist() == [False]


def test_beams_do_not_end_with_leading_words():
    settings = {"beam_size": 3, "min_len": 1, "no_repeat_ngram_size": 0, "max_len_b": LONGEST}
    model, batch = ending_model(5.0), prompt_batch()
    free = [found[0] for found in beam_search(model, **batch, **settings)]  # type: ignore[arg-type]
    last = {int(one.tokens[-2]) for one in free if one.ended}
    assert last, "some caption ends by itself"
    kept = beam_search(model, **batch, **settings, leading=[(token,) for token in last])  # type: ignore[arg-type]
    assert not [found[0] for found in kept if found[0].ended and int(found[0].tokens[-2]) in last]
