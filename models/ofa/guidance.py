"""Beam search away from what other conditions would say: classifier-free guidance over the style.

With p the model's next-token distribution under the asked style and q the mean of those under the other conditions (the
image's other styles, or a prompt without a style), a token scores

    log p + strength · (log p - log q),    normalised over the tokens with p >= plausible · max p,

(Ho and Salimans, arXiv:2207.12598; for language models Sanchez et al., arXiv:2306.17806). The limit to plausible tokens
is that of contrastive decoding (Li et al., arXiv:2210.15097): without it, tokens that both distributions nearly exclude
would win by their ratio. Strength 0 is plain beam search.

Shapes: B prompts, V vocabulary, N rows of any distribution.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.ofa.beams import Beams, Hypothesis
from models.ofa.constraints import Constraints
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel


def guided_log_probs(own: Tensor, others: Sequence[Tensor], *, strength: float, plausible: float) -> Tensor:
    """The formula above on log-probabilities [N, V]: `own` is log p, `others` the conditions that q is the mean of."""
    if not others or strength == 0:
        return own
    mean = torch.stack(list(others)).logsumexp(0) - math.log(len(others))
    least = own.max(-1, keepdim=True).values + (math.log(plausible) if plausible > 0 else -torch.inf)
    # A token that nobody can say (-inf - -inf) stays impossible.
    guided = (own + strength * (own - mean)).masked_fill((own < least) | own.isneginf(), -torch.inf)
    return guided.log_softmax(-1)


@torch.no_grad()
def search_guided(
    model: OFAModel,
    encoded: OFAEncoderOutput,
    others: Sequence[OFAEncoderOutput],
    *,
    strength: float,
    plausible: float = 0.02,
    beam_size: int,
    max_len_b: int,
    min_len: int,
    no_repeat_ngram_size: int,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """`generation.search_encoded` with guidance: the best captions of each prompt, best first.

    Args:
        encoded: the prompts [B] with the asked style.
        others: the same prompts [B] under each other condition; what they may say together is q.
        strength: 0 is no guidance; more than 0 goes away from `others`, less than 0 towards them.
        plausible: least share of the likeliest token's probability that a token needs; 0 allows all.
        beam_size, max_len_b, min_len, no_repeat_ngram_size, length_penalty: as in `generation.beam_search`.

    Raises:
        ValueError: `plausible` is not from 0 to 1.
    """
    if not 0 <= plausible <= 1:
        raise ValueError(f"guidance needs plausible from 0 to 1, not {plausible}")
    config = model.config
    limits = Constraints(min_len, max_len_b, no_repeat_ngram_size, config.pad_token_id, config.eos_token_id)
    count = min(beam_size, config.vocab_size - 1)
    prompts = encoded.last_hidden_state.shape[0]
    conditions = [encoded, *others] if strength else [encoded]
    sources = [model.decoder.prepare(condition, max_len_b + 1) for condition in conditions]
    caches = [model.decoder.caches(prompts * count, max_len_b + 1, like=source.keys_values[0][0]) for source in sources]
    like = torch.empty(0, dtype=torch.int64, device=encoded.last_hidden_state.device)
    beams = Beams(prompts, count, max_len_b, config.decoder_start_token_id, config.eos_token_id, like=like)
    for step in range(max_len_b + 1):
        last = beams.tokens[:, -1]
        logits = [model.decoder.step(last, step, *state) for state in zip(sources, caches, strict=True)]
        own, *rest = [each.float().log_softmax(-1) for each in logits]
        scores = limits.apply(guided_log_probs(own, rest, strength=strength, plausible=plausible), beams.tokens)
        grown = beams.advance(scores, length_penalty)
        if grown is None:
            break
        kept, stay = grown
        if stay is not None:
            sources = [source.keep(stay) for source in sources]
        for cache in (layer for layers in caches for layer in layers):
            cache.reorder(kept)
    return beams.finished.best_first()
