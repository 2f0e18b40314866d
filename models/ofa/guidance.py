"""Beam search away from what other conditions would say: classifier-free guidance over the style and over the image.

With p the model's next-token distribution as it was asked, and q_k the mean of its distributions under the conditions
of guide k (for the style: the image's other styles; for the image: no image), a token scores

    log p + Σ_k strength_k · (log p - log q_k),    normalised over the tokens with p >= plausible · max p

(Ho and Salimans, arXiv:2207.12598; for language models Sanchez et al., arXiv:2306.17806). The limit to plausible tokens
is that of contrastive decoding (Li et al., arXiv:2210.15097): without it, tokens that all distributions nearly exclude
would win by their ratio. Without guides it is plain beam search. Away from the other styles the style grows plainer;
away from what is said without an image, captions say more of this image and are less alike.

Shapes: B prompts, V vocabulary, N rows of any distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ofa.beams import Beams, Hypothesis
from models.ofa.constraints import Constraints
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel


@dataclass(frozen=True)
class Guide:
    """What to go away from.

    Attributes:
        others: the prompts [B] encoded under each other condition; what they say together is q.
        strength: [B] float; 0 is no guidance, more than 0 goes away from `others`, less than 0 towards them.
    """

    others: Sequence[OFAEncoderOutput]
    strength: Tensor


def guided_log_probs(own: Tensor, guides: Sequence[tuple[Sequence[Tensor], Tensor]], plausible: float) -> Tensor:
    """The formula above on log-probabilities [N, V]: `own` is log p, each guide the distributions that its q is the
    mean of, and its strength [N]."""
    if not guides:
        return own
    scores = own
    for others, strength in guides:
        mean = torch.stack(list(others)).logsumexp(0) - math.log(len(others))
        scores = scores + strength[:, None] * (own - mean)
    least = own.max(-1, keepdim=True).values + (math.log(plausible) if plausible > 0 else -torch.inf)
    # A token that nobody can say (-inf - -inf) stays impossible.
    return scores.masked_fill((own < least) | own.isneginf(), -torch.inf).log_softmax(-1)


@torch.no_grad()
def search_guided(
    model: OFAModel,
    encoded: OFAEncoderOutput,
    guides: Sequence[Guide],
    *,
    plausible: float = 0.02,
    beam_size: int,
    max_len_b: int,
    min_len: int,
    no_repeat_ngram_size: int,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """`generation.search_encoded` with guidance: the best captions of each prompt, best first.

    Args:
        encoded: the prompts [B] as they were asked.
        guides: what to go away from. Each condition costs as much as plain decoding.
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
    state = _Conditions(model, encoded, guides, count, max_len_b + 1)
    like = torch.empty(0, dtype=torch.int64, device=encoded.last_hidden_state.device)
    prompts = encoded.last_hidden_state.shape[0]
    beams = Beams(prompts, count, max_len_b, config.decoder_start_token_id, config.eos_token_id, like=like)
    for step in range(max_len_b + 1):
        scores = state.step(beams.tokens[:, -1], step, plausible)
        grown = beams.advance(limits.apply(scores, beams.tokens), length_penalty)
        if grown is None:
            break
        state.keep(*grown)
    return beams.finished.best_first()


class _Conditions:
    """The decoder's state under the asked condition and under those of the guides, in lockstep over the same beams."""

    def __init__(
        self, model: OFAModel, encoded: OFAEncoderOutput, guides: Sequence[Guide], beams: int, length: int
    ) -> None:
        self.decoder = model.decoder
        # A guide that is nowhere felt costs nothing.
        self.guides = [guide for guide in guides if guide.others and guide.strength.any()]
        conditions = [encoded, *(other for guide in self.guides for other in guide.others)]
        self.sources = [model.decoder.prepare(condition, length) for condition in conditions]
        rows = encoded.last_hidden_state.shape[0] * beams
        self.caches = [model.decoder.caches(rows, length, like=source.keys_values[0][0]) for source in self.sources]
        self.strengths = [guide.strength.repeat_interleave(beams) for guide in self.guides]

    def step(self, last: Tensor, position: int, plausible: float) -> Tensor:
        """Log-probabilities [N, V] after the tokens `last` [N]."""
        states = zip(self.sources, self.caches, strict=True)
        logits = [self.decoder.step(last, position, source, caches) for source, caches in states]
        own, *rest = [each.float().log_softmax(-1) for each in logits]
        guides: list[tuple[list[Tensor], Tensor]] = []
        for guide, strength in zip(self.guides, self.strengths, strict=True):
            guides.append((rest[: len(guide.others)], strength))
            rest = rest[len(guide.others) :]
        return guided_log_probs(own, guides, plausible)

    def keep(self, kept: Tensor, stay: Tensor | None) -> None:
        """Go on from the beams `kept` [N]; `stay`: the prompts that are still searched, None for all."""
        if stay is not None:
            self.sources = [source.keep(stay) for source in self.sources]
        for cache in (layer for layers in self.caches for layer in layers):
            cache.reorder(kept)
        self.strengths = [strength[kept] for strength in self.strengths]
