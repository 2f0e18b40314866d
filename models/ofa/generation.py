"""Beam search and sampling over one encoder pass an image.

Sampling returns the log-probabilities that policy gradients need.

Shapes: B prompts, K candidates a prompt, T caption positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ofa.beams import Beams, Hypothesis, look_every
from models.ofa.constraints import Constraints
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel

__all__ = [
    "Hypothesis",
    "Samples",
    "beam_search",
    "draw",
    "filter_logits",
    "sample",
    "sample_encoded",
    "search_encoded",
]


@dataclass(frozen=True)
class Samples:
    """Sampled captions.

    Attributes:
        tokens: [B, K, T] int64, with eos, without bos, padded after eos.
        log_probs: [B, K, T] float32: log-probability of each token under the model itself, whatever temperature and
            truncation it was drawn with; 0 at padding.
        encoder_outputs: the encoder pass that they were drawn from.
    """

    tokens: Tensor
    log_probs: Tensor
    encoder_outputs: OFAEncoderOutput


@torch.no_grad()
def beam_search(
    model: OFAModel,
    input_ids: Tensor,
    patch_images: Tensor | None,
    patch_masks: Tensor | None,
    *,
    beam_size: int,
    max_len_b: int,
    min_len: int,
    no_repeat_ngram_size: int,
    length_penalty: float = 1.0,
    leading: Sequence[Sequence[int]] = (),
    image_index: Tensor | None = None,
    padded: bool | None = None,
) -> list[list[Hypothesis]]:
    """The best captions of each prompt, best first.

    Args:
        input_ids: prompts [B, L].
        patch_images: [images, 3, height, width] or None.
        patch_masks: [images] bool, False for a missing image; None when all are there.
        beam_size: hypotheses kept at each step and returned.
        max_len_b: most tokens before eos.
        min_len: fewest tokens before eos.
        no_repeat_ngram_size: an n-gram of this many tokens (bos among them) occurs once; 0 allows all.
        length_penalty: exponent of the length that scores are divided by; more than 1 favours longer captions.
        leading: words, as tokens, that no caption ends with, as in `Constraints`.
        image_index: [B] the row of `patch_images` of each prompt; None when each has its own.
        padded: as in `OFAEncoder.forward`.

    Returns:
        For each prompt up to `beam_size` hypotheses.

    Raises:
        ValueError: `min_len` is larger than `max_len_b`, or `beam_size` is less than 1.
    """
    if min_len > max_len_b or beam_size < 1:
        raise ValueError(
            f"beam search needs beam_size >= 1 and min_len <= max_len_b; got {beam_size=}, {min_len=}, {max_len_b=}"
        )
    return search_encoded(
        model,
        model.encoder(input_ids, patch_images, patch_masks, image_index, padded),
        beam_size=beam_size,
        max_len_b=max_len_b,
        min_len=min_len,
        no_repeat_ngram_size=no_repeat_ngram_size,
        length_penalty=length_penalty,
        leading=leading,
    )


@torch.no_grad()
def search_encoded(
    model: OFAModel,
    encoded: OFAEncoderOutput,
    *,
    beam_size: int,
    max_len_b: int,
    min_len: int,
    no_repeat_ngram_size: int,
    length_penalty: float = 1.0,
    leading: Sequence[Sequence[int]] = (),
) -> list[list[Hypothesis]]:
    """`beam_search` of prompts that are already encoded."""
    config = model.config
    limits = Constraints.of(config, min_len, max_len_b, no_repeat_ngram_size, leading)
    count = min(beam_size, config.vocab_size - 1)
    prompts = encoded.last_hidden_state.shape[0]
    source = model.decoder.prepare(encoded, max_len_b + 1)
    caches = model.decoder.caches(prompts * count, max_len_b + 1, like=source.keys_values[0][0])
    start = encoded.first_tokens(config.decoder_start_token_id, count)
    like = torch.empty(0, dtype=torch.int64, device=encoded.last_hidden_state.device)
    beams = Beams(prompts, count, max_len_b, start, config.eos_token_id, like=like)
    for step in range(max_len_b + 1):
        logits = model.decoder.step(beams.tokens[:, -1], step, source, caches)
        log_probs = logits.float().log_softmax(-1)
        own = limits.own_ends(log_probs, beams.tokens) if step == max_len_b else None
        grown = beams.advance(limits.apply(log_probs, beams.tokens), length_penalty, own)
        if grown is None:
            break
        kept, stay = grown
        if stay is not None:
            source = source.keep(stay)
        for cache in caches:
            cache.reorder(kept)
    return beams.finished.best_first()


def filter_logits(logits: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Logits [N, V] of the distribution to draw from.

    `temperature` divides them; `top_k` keeps the k largest (0: all); `top_p` keeps the smallest set of tokens whose
    probabilities sum to at least p (nucleus sampling, arXiv:1904.09751; 1.0: all).
    """
    logits = logits / temperature
    if top_k > 0:
        threshold = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits = logits.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), -torch.inf)
    return logits


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One token [N] of each distribution [N, V], which need not be normalised.

    By inversion: one random number a row. `torch.multinomial` takes one a token, which on a CPU was half of the time of
    sampling.
    """
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    shape, device = (cumulated.shape[0], 1), cumulated.device
    place = torch.rand(shape, dtype=torch.float64, device=device, generator=generator) * cumulated[:, -1:]
    # Right of equals: a token of probability 0 adds nothing to the sum before it, and is never met.
    return torch.searchsorted(cumulated, place, right=True).squeeze(1).clamp_(max=probabilities.shape[1] - 1)


@torch.no_grad()
def sample(
    model: OFAModel,
    input_ids: Tensor,
    patch_images: Tensor | None,
    patch_masks: Tensor | None,
    *,
    num_samples: int,
    max_len_b: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_len: int = 1,
    no_repeat_ngram_size: int = 0,
    generator: torch.Generator | None = None,
    image_index: Tensor | None = None,
) -> Samples:
    """Draw `num_samples` captions of each prompt from one encoder pass.

    Args:
        temperature: 0 takes the most probable token at each step (greedy), the same for every sample.
        generator: source of randomness, on the device of the model; None is torch's own.
        others: as in `beam_search` and `filter_logits`.

    Raises:
        ValueError: a setting out of its range.
    """
    if num_samples < 1 or temperature < 0 or not 0 < top_p <= 1 or top_k < 0 or min_len > max_len_b:
        raise ValueError(
            "sampling needs num_samples >= 1, temperature >= 0, 0 < top_p <= 1, top_k >= 0 and min_len <= max_len_b; "
            f"got {num_samples=}, {temperature=}, {top_p=}, {top_k=}, {min_len=}, {max_len_b=}"
        )
    encoded = model.encoder(input_ids, patch_images, patch_masks, image_index)
    return sample_encoded(
        model,
        encoded,
        num_samples=num_samples,
        max_len_b=max_len_b,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_len=min_len,
        no_repeat_ngram_size=no_repeat_ngram_size,
        generator=generator,
    )


@torch.no_grad()
def sample_encoded(
    model: OFAModel,
    encoded: OFAEncoderOutput,
    *,
    num_samples: int,
    max_len_b: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_len: int = 1,
    no_repeat_ngram_size: int = 0,
    generator: torch.Generator | None = None,
    greedy_first: bool = False,
) -> Samples:
    """`sample` of prompts that are already encoded.

    `greedy_first`: the first sample of each prompt is not drawn but greedy, decoded in the same pass as the others.
    """
    config = model.config
    limits = Constraints.of(config, min_len, max_len_b, no_repeat_ngram_size)
    prompts, device = encoded.last_hidden_state.shape[0], encoded.last_hidden_state.device
    rows = prompts * num_samples
    source = model.decoder.prepare(encoded, max_len_b + 1)
    caches = model.decoder.caches(rows, max_len_b + 1, like=source.keys_values[0][0])
    tokens = encoded.first_tokens(config.decoder_start_token_id, num_samples)[:, None]
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    look = look_every(device)
    steps = torch.zeros((), dtype=torch.int64, device=device)  # after which all have ended
    log_probs = []
    for step in range(max_len_b + 1):
        logits = model.decoder.step(tokens[:, -1], step, source, caches).float()
        allowed = limits.apply(logits.clone(), tokens)
        if temperature == 0:
            token = allowed.argmax(-1)
        else:
            drawn = filter_logits(allowed, temperature=temperature, top_k=top_k, top_p=top_p).softmax(-1)
            token = draw(drawn, generator)
            if greedy_first:
                token[::num_samples] = allowed[::num_samples].argmax(-1)
        log_prob = logits.log_softmax(-1).gather(1, token[:, None]).squeeze(1)
        log_probs.append(log_prob.masked_fill(ended, 0.0))
        tokens = torch.cat([tokens, token.masked_fill(ended, config.pad_token_id)[:, None]], dim=1)
        steps += ~ended.all()
        ended |= token.eq(config.eos_token_id)
        if (step + 1) % look == 0 and ended.all():
            break
    length, shape = int(steps), (prompts, num_samples, -1)
    taken = torch.stack(log_probs[:length], dim=1)
    return Samples(tokens[:, 1 : length + 1].reshape(shape), taken.view(shape), encoded)
