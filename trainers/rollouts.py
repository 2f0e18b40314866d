"""The candidates that step 2 learns from: how they are drawn, and what the model says of them.

Shapes: M prompts, K candidates a prompt, N = M·K captions, T positions, n tokens that are not padding.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.ofa import OFAModel
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.generation import sample_encoded, search_encoded
from preprocessors.collate import Asked
from rewards.base import Candidate
from rewards.calculator import Rewards
from trainers.cross_entropy import encode
from trainers.policy_gradient import drawn_log_probs, token_log_probs


@dataclass
class Rollout:
    """The candidates of a micro-batch and what they were drawn from.

    Attributes:
        encoded: the encoder's pass, with gradient.
        tokens: [M, K, T] candidates with eos where they ended, padded; the greedy captions are not among them.
        captions: [M] the same as text, the greedy captions first where they are there.
        on_host: `tokens` on the CPU, copied once, as they were scored.
        kept: [M, K, T] bool, false at padding; ended: [M, K] bool, whether a candidate wrote its end; both on the CPU.
        rewards: of [M, K] candidates, or [M, 1 + K] with the greedy captions first.
        seconds: that sampling took.
        before: [n] log-probabilities of the candidates' tokens when they were first learnt from.
    """

    encoded: OFAEncoderOutput
    tokens: Tensor
    captions: Sequence[Sequence[Candidate]]
    on_host: Tensor
    kept: Tensor
    ended: Tensor
    rewards: "Future[Rewards]"
    seconds: float
    before: Tensor | None = None


@dataclass(frozen=True)
class Drawing:
    """How candidates are drawn.

    Attributes:
        kind: "multinomial" draws from the model; "beam" takes the best of a beam search, which no longer is an unbiased
            sample.
        number: K, of candidates a prompt.
        sharpness: `temperature`, `top_k` and `top_p` of the multinomial.
        max_len_b: most tokens of a candidate.
    """

    kind: Literal["multinomial", "beam"]
    number: int
    sharpness: Mapping[str, Any]
    max_len_b: int

    def draw(self, model: OFAModel, encoded: OFAEncoderOutput, *, greedy: bool) -> Tensor:
        """Candidates [M, K, T], or with the greedy captions first [M, 1 + K, T]; one that did not end in `max_len_b`
        tokens has none."""
        drawn = self._draw(model, encoded, greedy)
        return without_forced_end(drawn, self.max_len_b, model.config.eos_token_id, model.config.pad_token_id)

    def _draw(self, model: OFAModel, encoded: OFAEncoderOutput, greedy: bool) -> Tensor:
        """The same, with an end forced a token late."""
        longest = self.max_len_b + 1
        if self.kind == "multinomial":
            return sample_encoded(
                model,
                encoded,
                num_samples=self.number + greedy,
                max_len_b=longest,
                greedy_first=greedy,
                **self.sharpness,
            ).tokens
        search: dict[str, Any] = {"max_len_b": longest, "min_len": 1, "no_repeat_ngram_size": 0}
        found = search_encoded(model, encoded, beam_size=self.number, **search)
        if greedy:
            best = search_encoded(model, encoded, beam_size=1, **search)
            found = [first + others for first, others in zip(best, found, strict=True)]
        width = self.number + greedy
        # A search may end with fewer captions than beams where the vocabulary is tiny: the best stands in.
        filled = [[*beams, *[beams[0]] * (width - len(beams))] for beams in found]
        flat = [hypothesis.tokens for beams in filled for hypothesis in beams]
        padded = pad_sequence(flat, batch_first=True, padding_value=model.config.pad_token_id)
        return padded.view(len(found), width, -1).to(encoded.last_hidden_state.device)

    def log_probs(self, model: OFAModel, rollout: Rollout, logits: Tensor, target: Tensor) -> Tensor:
        """[n] of the tokens, under what they were drawn from; of beams, which are not drawn, under the model."""
        if self.kind == "beam":
            return token_log_probs(logits, target)
        # Sampling never draws padding, nor an end before the first word.
        lengths = rollout.kept.flatten(0, 1).sum(1)
        first = (lengths.cumsum(0) - lengths).to(target.device, non_blocking=True)
        pads = torch.full_like(target, model.config.pad_token_id)
        banned = torch.stack([pads, pads.index_fill(0, first, model.config.eos_token_id)], dim=1)
        return drawn_log_probs(logits, target, banned, likely=first, **self.sharpness)


def without_forced_end(tokens: Tensor, max_len_b: int, eos: int, pad: int) -> Tensor:
    """Candidates [M, K, T] cut to `max_len_b` tokens and an end that the model wrote itself, [M, K, ≤ max_len_b + 1].

    Decoding writes an end after the last token that is allowed. The model did not choose it, so it must neither be
    learnt from nor hide that the caption never ended.
    """
    tokens = tokens[..., : max_len_b + 1].clone()
    last = tokens[..., max_len_b:]
    last[last != eos] = pad
    return tokens


def candidate_logits(
    model: OFAModel, encoded: OFAEncoderOutput, tokens: Tensor, on_host: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [n, V] at the tokens of candidates [M, K, T] that are not padding, which tokens they are [M·K, T], and the
    tokens [n]. With a copy of the tokens on the host, the device is not waited for."""
    flat, pad = tokens.flatten(0, 1), model.config.pad_token_id
    places = (tokens if on_host is None else on_host).flatten().ne(pad).nonzero().flatten()
    places = places.to(tokens.device, non_blocking=True)
    start = encoded.first_tokens(model.config.decoder_start_token_id, tokens.shape[1])[:, None]
    hidden = model.decode(encoded, torch.cat([start, flat[:, :-1]], dim=1), None)
    return model.decoder.output_projection(hidden.flatten(0, 1)[places]), flat.ne(pad), flat.flatten()[places]


def encode_asked(model: OFAModel, batch: Mapping[str, Any]) -> OFAEncoderOutput:
    """A row for each of `batch["asked"]`, from one pass of the encoder over each prompt."""
    asked: Asked = batch["asked"]
    encoded = encode(model, batch)
    device = batch["input_ids"].device
    return encoded.rows(torch.tensor(asked.prompts, device=device), torch.tensor(asked.starts, device=device))
