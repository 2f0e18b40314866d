"""Beam search and sampling over one encoder pass an image.

Beam search has the semantics of fairseq's `SequenceGenerator`, which OFA was published with; sampling returns the
log-probabilities that policy gradients need.

Shapes: B prompts, K candidates a prompt, T caption positions, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.ofa.encoder import OFAEncoderOutput
from models.ofa.modeling import OFAModel


@dataclass(frozen=True)
class Hypothesis:
    """A finished caption: `tokens` int64 [T] with eos and without bos; `score` is its mean log-probability, where the
    mean divides by T ** length_penalty."""

    tokens: Tensor
    score: float


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


def forbidden_tokens(tokens: Tensor, size: int) -> Tensor:
    """Tokens that would complete an n-gram of `size` for the second time.

    Args:
        tokens: captions so far [N, t], bos included.
        size: words in an n-gram; 0 forbids nothing.

    Returns:
        [N, W] int64 over the W n-grams so far: the forbidden token, or -1.
    """
    if size <= 0 or tokens.shape[1] < size:
        return tokens.new_empty(tokens.shape[0], 0)
    grams = tokens.unfold(1, size, 1)
    tail = tokens[:, tokens.shape[1] - size + 1 :]
    repeated = (grams[..., :-1] == tail[:, None]).all(-1)
    return grams[..., -1].masked_fill(~repeated, -1)


def constrain(
    scores: Tensor,
    tokens: Tensor,
    step: int,
    *,
    min_len: int,
    max_len_b: int,
    no_repeat_ngram_size: int,
    pad: int,
    eos: int,
) -> Tensor:
    """Set the scores [N, V] of tokens that may not come next, after `tokens` [N, step + 1], to -inf. In place."""
    scores.masked_fill_(scores.isnan(), -torch.inf)
    scores[:, pad] = -torch.inf
    if step < min_len:
        scores[:, eos] = -torch.inf
    if step >= max_len_b:
        ended = scores[:, eos].clone()
        scores.fill_(-torch.inf)
        scores[:, eos] = ended
    banned = forbidden_tokens(tokens, no_repeat_ngram_size)
    if banned.shape[1]:
        # Rows without a ban point at pad, which is forbidden anyway: no shape depends on the data.
        scores.scatter_(1, banned.where(banned >= 0, pad), -torch.inf)
    return scores


class _Finished:
    """Hypotheses that ended, kept as tensors so that no step waits for the device."""

    def __init__(self, prompts: int, beam_size: int, length: int, like: Tensor):
        self.tokens = like.new_zeros(prompts, beam_size, length)
        self.lengths = like.new_zeros(prompts, beam_size)
        self.scores = torch.full((prompts, beam_size), -torch.inf, device=like.device)
        self.count = like.new_zeros(prompts)

    def add(self, prompts: Tensor, ended: Tensor, tokens: Tensor, scores: Tensor) -> None:
        """Store those of `tokens` [b, k, t] where `ended` [b, k], in order, until a prompt has `beam_size` of them.

        `prompts` [b] names the rows among all prompts.
        """
        slot = self.count[prompts, None] + ended.cumsum(1) - 1
        stored = ended & (slot < self.tokens.shape[1])
        row, column = stored.nonzero(as_tuple=True)
        place = (prompts[row], slot[row, column])
        self.tokens[(*place, slice(None, tokens.shape[2]))] = tokens[row, column]
        self.lengths[place] = tokens.shape[2]
        self.scores[place] = scores[row, column]
        self.count[prompts] += stored.sum(1)

    def sorted(self) -> list[list[Hypothesis]]:
        scores, order = self.scores.sort(dim=1, descending=True, stable=True)
        tokens = self.tokens.gather(1, order[..., None].expand_as(self.tokens)).cpu()
        lengths = self.lengths.gather(1, order).tolist()
        return [
            [
                Hypothesis(tokens[row, beam, : lengths[row][beam]].clone(), score)
                for beam, score in enumerate(beams)
                if lengths[row][beam]
            ]
            for row, beams in enumerate(scores.tolist())
        ]


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
    image_index: Tensor | None = None,
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
        image_index: [B] the row of `patch_images` of each prompt; None when each has its own.

    Returns:
        For each prompt up to `beam_size` hypotheses.

    Raises:
        ValueError: `min_len` is larger than `max_len_b`, or `beam_size` is less than 1.
    """
    if min_len > max_len_b or beam_size < 1:
        raise ValueError(
            f"beam search needs beam_size >= 1 and min_len <= max_len_b; got {beam_size=}, {min_len=}, {max_len_b=}"
        )
    config = model.config
    pad, eos = config.pad_token_id, config.eos_token_id
    beams = min(beam_size, config.vocab_size - 1)
    prompts, device = input_ids.shape[0], input_ids.device
    source = model.decoder.prepare(model.encoder(input_ids, patch_images, patch_masks, image_index), max_len_b + 1)
    caches = model.decoder.caches(prompts * beams, max_len_b + 1, like=source.keys_values[0][0])
    finished = _Finished(prompts, beams, max_len_b + 1, input_ids)

    active = torch.arange(prompts, device=device)  # prompts that are still searched
    tokens = torch.full((prompts * beams, 1), config.decoder_start_token_id, device=device)
    scores = torch.zeros(prompts, beams, device=device)
    dead = torch.zeros(prompts, beams, dtype=torch.bool, device=device)  # beams whose hypothesis has ended
    for step in range(max_len_b + 1):
        logits = model.decoder.step(tokens[:, -1], step, source, caches)
        log_probs = constrain(
            logits.float().log_softmax(-1),
            tokens,
            step,
            min_len=min_len,
            max_len_b=max_len_b,
            no_repeat_ngram_size=no_repeat_ngram_size,
            pad=pad,
            eos=eos,
        )
        log_probs = log_probs.view(active.numel(), beams, -1)
        # All beams are alike at first: only one of them may propose.
        totals = log_probs[:, :1] if step == 0 else log_probs + scores[..., None]
        # Twice as many candidates as beams: if half of them end, enough are left to go on with.
        count = min(2 * beams, totals[0].numel() - 1)
        best, index = totals.flatten(1).topk(count)
        origin, token = index // log_probs.shape[-1], index % log_probs.shape[-1]
        rows = origin + torch.arange(active.numel(), device=device)[:, None] * beams

        ends = token.eq(eos) & best.isfinite()
        ends[:, :beams] &= ~dead[:, : ends.shape[1]]
        among_best = ends[:, :beams]
        ended_tokens = torch.cat([tokens[rows[:, :beams]][..., 1:], token[:, :beams, None]], dim=-1)
        finished.add(active, among_best, ended_tokens, best[:, :beams] / (step + 1) ** length_penalty)
        going_on = finished.count[active] < beams
        if step == max_len_b or not going_on.any():
            break

        # The first candidates in line that neither ended nor come from a place already taken by an ended one.
        skip = ends.clone()
        skip[:, :beams] |= dead[:, : ends.shape[1]]
        line = torch.arange(count, device=device) + count * skip
        place, chosen = line.topk(min(beams, count), dim=1, largest=False)
        dead = place >= count
        scores = best.gather(1, chosen)
        kept = rows.gather(1, chosen)
        token = token.gather(1, chosen)
        if not going_on.all():
            active, dead, scores, kept, token = (t[going_on] for t in (active, dead, scores, kept, token))
            source = source.keep(going_on.nonzero().flatten())
        kept = kept.flatten()
        tokens = torch.cat([tokens[kept], token.view(-1, 1)], dim=1)
        for cache in caches:
            cache.reorder(kept)
    return finished.sorted()


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
    config = model.config
    encoded = model.encoder(input_ids, patch_images, patch_masks, image_index)
    source = model.decoder.prepare(encoded, max_len_b + 1)
    rows = input_ids.shape[0] * num_samples
    caches = model.decoder.caches(rows, max_len_b + 1, like=source.keys_values[0][0])
    tokens = torch.full((rows, 1), config.decoder_start_token_id, device=input_ids.device)
    ended = torch.zeros(rows, dtype=torch.bool, device=input_ids.device)
    log_probs = []
    for step in range(max_len_b + 1):
        logits = model.decoder.step(tokens[:, -1], step, source, caches).float()
        allowed = constrain(
            logits.clone(),
            tokens,
            step,
            min_len=min_len,
            max_len_b=max_len_b,
            no_repeat_ngram_size=no_repeat_ngram_size,
            pad=config.pad_token_id,
            eos=config.eos_token_id,
        )
        if temperature == 0:
            token = allowed.argmax(-1)
        else:
            drawn = filter_logits(allowed, temperature=temperature, top_k=top_k, top_p=top_p).softmax(-1)
            token = drawn.multinomial(1, generator=generator).squeeze(1)
        log_prob = logits.log_softmax(-1).gather(1, token[:, None]).squeeze(1)
        log_probs.append(log_prob.masked_fill(ended, 0.0))
        tokens = torch.cat([tokens, token.masked_fill(ended, config.pad_token_id)[:, None]], dim=1)
        ended |= token.eq(config.eos_token_id)
        if ended.all():
            break
    shape = (input_ids.shape[0], num_samples, -1)
    return Samples(tokens[:, 1:].view(shape), torch.stack(log_probs, dim=1).view(shape), encoded)
