"""Beam search away from what other conditions would say: classifier-free guidance over the style and the image.

With p the model's next-token distribution as it is asked, and q_i the mean of those under the conditions of contrast i
(the image in other styles, or the asked style without the image), a token scores

    log p + Σ_i strength_i · (log p - log q_i),    normalised over the tokens with p >= plausible · max p,

(Ho and Salimans, arXiv:2207.12598; for language models Sanchez et al., arXiv:2306.17806). The limit to plausible tokens
is that of contrastive decoding (Li et al., arXiv:2210.15097): without it, tokens that both distributions nearly exclude
would win by their ratio. Strength 0 is plain beam search.

Shapes: B prompts, V vocabulary, N rows of any distribution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.ofa.beams import Beams, Hypothesis
from models.ofa.constraints import Constraints
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel


class Contrast(NamedTuple):
    """Conditions to go away from: the same prompts [B], encoded under each of them.

    `strength`: one number, or one a prompt [B]; more than 0 goes away from them, less than 0 towards them.
    """

    others: Sequence[OFAEncoderOutput]
    strength: float | Tensor


def guided_log_probs(
    own: Tensor,
    contrasts: Sequence[tuple[Sequence[Tensor], float | Tensor]],
    *,
    plausible: float,
    allowed: Tensor | None = None,
) -> Tensor:
    """The formula above on log-probabilities [N, V].

    `own` is log p; each of `contrasts` holds the conditions that its q is the mean of, and its strength, a number or
    [N, 1]. Without any, it is `own`. `allowed` is `own` with -inf at tokens that may not follow: the likeliest of the
    others sets what is plausible, so that one of them is.
    """
    if not contrasts:
        return own
    guided = own
    for others, strength in contrasts:
        mean = torch.stack(list(others)).logsumexp(0) - math.log(len(others))
        guided = guided + strength * (own - mean)
    likeliest = (own if allowed is None else allowed).max(-1, keepdim=True).values
    least = likeliest + (math.log(plausible) if plausible > 0 else -torch.inf)
    # A token that nobody can say (-inf - -inf) stays impossible.
    return guided.masked_fill((own < least) | own.isneginf(), -torch.inf).log_softmax(-1)


#: Least share of the likeliest token's probability that a token needs, where nothing else is said.
PLAUSIBLE = 0.02


@torch.no_grad()
def search_guided(
    model: OFAModel,
    encoded: OFAEncoderOutput,
    contrasts: Sequence[Contrast],
    *,
    plausible: float = PLAUSIBLE,
    beam_size: int,
    max_len_b: int,
    min_len: int,
    no_repeat_ngram_size: int,
    length_penalty: float = 1.0,
    leading: Sequence[Sequence[int]] = (),
) -> list[list[Hypothesis]]:
    """`generation.search_encoded` with guidance: the best captions of each prompt, best first.

    Args:
        encoded: the prompts [B] as they are asked.
        contrasts: what to go away from, and how far; without any it is plain beam search.
        plausible: least share of the likeliest token's probability that a token needs; 0 allows all.
        beam_size, max_len_b, min_len, no_repeat_ngram_size, length_penalty, leading: as in `generation.beam_search`.

    Raises:
        ValueError: `plausible` is not from 0 to 1.
    """
    if not 0 <= plausible <= 1:
        raise ValueError(f"guidance needs plausible from 0 to 1, not {plausible}")
    config = model.config
    limits = Constraints.of(config, min_len, max_len_b, no_repeat_ngram_size, leading)
    count = min(beam_size, config.vocab_size - 1)
    prompts = encoded.last_hidden_state.shape[0]
    conditions = [encoded, *(other for contrast in contrasts for other in contrast.others)]
    sources = [model.decoder.prepare(condition, max_len_b + 1) for condition in conditions]
    caches = [model.decoder.caches(prompts * count, max_len_b + 1, like=source.keys_values[0][0]) for source in sources]
    like = torch.empty(0, dtype=torch.int64, device=encoded.last_hidden_state.device)
    starts = [condition.first_tokens(config.decoder_start_token_id, count) for condition in conditions]
    beams = Beams(prompts, count, max_len_b, starts[0], config.eos_token_id, like=like)
    for step in range(max_len_b + 1):
        last = starts if step == 0 else [beams.tokens[:, -1]] * len(sources)
        states = zip(last, sources, caches, strict=True)
        logits = [model.decoder.step(tokens, step, source, cache) for tokens, source, cache in states]
        own, *rest = [each.float().log_softmax(-1) for each in logits]
        found = iter(rest)
        said = [([next(found) for _ in others], _by_beam(strength, beams)) for others, strength in contrasts]
        allowed = limits.apply(own.clone(), beams.tokens)
        scores = guided_log_probs(own, said, plausible=plausible, allowed=allowed)
        unforced = limits.own_ends(scores, beams.tokens) if step == max_len_b else None
        grown = beams.advance(limits.apply(scores, beams.tokens), length_penalty, unforced)
        if grown is None:
            break
        kept, stay = grown
        if stay is not None:
            sources = [source.keep(stay) for source in sources]
        for cache in (layer for layers in caches for layer in layers):
            cache.reorder(kept)
    return beams.finished.best_first()


def _by_beam(strength: float | Tensor, beams: Beams) -> float | Tensor:
    """The strengths of the beams that still grow, [b·k, 1]."""
    return strength[beams.active].repeat_interleave(beams.beams)[:, None] if isinstance(strength, Tensor) else strength
