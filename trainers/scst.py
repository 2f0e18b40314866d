"""Step 2: self-critical sequence training of a captioner on rewards.

Per micro-batch, each image is encoded once, with gradient. Candidates are sampled on the detached states; while threads
score them, the next micro-batch is sampled; then the decoder reads the candidates on the states with gradient, the K
candidates of a prompt folded into the query axis so that they share keys and values. All of it happens before the
optimizer steps, so the update is on-policy; further steps on the same candidates weigh them by clipped ratios.

Shapes: M prompts, K candidates a prompt, N = M·K captions, T positions, n tokens that are not padding.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.ofa import OFAModel
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.generation import sample_encoded, search_encoded
from preprocessors.collate import Asked
from rewards.base import Candidate
from rewards.calculator import RewardCalculator, Rewards
from trainers.cross_entropy import encode, target_index, token_losses
from trainers.objective import Objective, ObjectiveOutput
from trainers.policy_gradient import (
    Baseline,
    Normalisation,
    Reduction,
    advantages,
    by_token,
    clipped_loss,
    clipped_share,
    divergence,
    drawn_log_probs,
    mean_by_caption,
    policy_loss,
    token_entropy,
    token_log_probs,
)
from trainers.scst_logs import advantage_logs, candidate_logs, reward_logs
from trainers.scst_samples import sample_rows

Decode = Callable[[list[list[int]]], list[str]]
SoftReferences = Callable[[str, str], Sequence[str]]


LOGGER = logging.getLogger("stylecap")


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


class SelfCritical(Objective):
    """The objective of step 2. The loss is the mean over candidates, plus weighted terms that are off by default.

    Args:
        calculator: scores candidates.
        decode: token ids of many captions -> their texts.
        candidates: "multinomial" draws from the model; "beam" takes the best of a beam search, which no longer is an
            unbiased sample.
        num_candidates, temperature, top_k, top_p, max_len_b: of the drawing.
        baseline, normalise_advantages, reduction: as `trainers.policy_gradient` defines them. What "batch" means there
            is one micro-batch on one rank.
        updates_per_rollout: steps of the optimizer on the same candidates.
        clip, clip_high: how far the ratio of probabilities is followed below and above 1, where there are several.
        mask_truncated: learn nothing from candidates that did not end.
        entropy_weight: of the mean entropy of a token, which is then kept high.
        cross_entropy_weight: of step 1's loss (mean over captions of their mean over tokens) on the batch's captions.
        label_smoothing: of that loss.
        kl_weight: of the mean divergence, a token, from `reference`.
        reference: the frozen model of step 1; needed where `kl_weight` is not 0.
        soft_references: (image id, style) -> captions of the image in other styles.
    """

    asks_model = True  # for candidates

    def __init__(
        self,
        *,
        calculator: RewardCalculator,
        decode: Decode,
        candidates: Literal["multinomial", "beam"],
        num_candidates: int,
        temperature: float,
        top_k: int,
        top_p: float,
        max_len_b: int,
        baseline: Baseline,
        normalise_advantages: Normalisation,
        reduction: Reduction,
        updates_per_rollout: int = 1,
        clip: float = 0.2,
        clip_high: float | None = None,
        mask_truncated: bool = False,
        entropy_weight: float = 0.0,
        cross_entropy_weight: float = 0.0,
        label_smoothing: float = 0.0,
        kl_weight: float = 0.0,
        reference: OFAModel | None = None,
        soft_references: SoftReferences | None = None,
    ):
        assert kl_weight == 0 or reference is not None
        self.calculator = calculator
        self.decode = decode
        self.candidates = candidates
        self.num_candidates = num_candidates
        self.drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.max_len_b = max_len_b
        self.baseline = baseline
        self.normalise_advantages = normalise_advantages
        self.reduction = reduction
        self.updates = updates_per_rollout
        self.counts_prepared = reduction == "batch"
        self.low, self.high = clip, clip if clip_high is None else clip_high
        self.mask_truncated = mask_truncated
        self.entropy_weight = entropy_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.label_smoothing = label_smoothing
        self.kl_weight = kl_weight
        self.reference = reference.eval().requires_grad_(False) if reference is not None else None
        self.soft_references = soft_references
        self._last: tuple[Sequence[Mapping[str, Any]], Sequence[Sequence[Candidate]], Rewards] | None = None
        if candidates == "beam" and baseline in ("leave_one_out", "group_mean"):
            LOGGER.warning(
                'scst.candidates = "beam" with scst.baseline = "%s": beams are no sample of the model, and a baseline '
                'of beams does not cancel out: use "multinomial", or the baseline "greedy"',
                baseline,
            )

    def set_mode(self, model: OFAModel) -> None:
        """No dropout, and batch normalisation by its running statistics: the sampled policy is the trained one."""
        model.eval()

    def count(self, batch: dict, step: int) -> int:
        """Candidates that the loss of a batch is summed over; with the reduction "batch", their tokens."""
        if self.reduction != "batch":
            return len(batch["asked"].requests) * self.num_candidates
        rollout: Rollout = batch["rollout"]
        return int((rollout.kept & rollout.ended[..., None] if self.mask_truncated else rollout.kept).sum())

    def close(self) -> None:
        self.calculator.close()

    # --- before the wrapped forward ----------------------------------------------------------------------------------

    def prepare(self, model: OFAModel, batch: dict) -> dict:
        """The batch with its `rollout`: candidates sampled, and on their way to be scored."""
        encoded = encode_asked(model, batch)
        started = time.perf_counter()
        drawn = self._draw(model, encoded)
        drawn = without_forced_end(drawn, self.max_len_b, model.config.eos_token_id, model.config.pad_token_id)
        eos, pad = model.config.eos_token_id, model.config.pad_token_id
        on_host = drawn.cpu()
        captions = self._captions(on_host, eos, pad)
        rewards = self._submit(captions, batch)
        greedy = 1 if self.baseline == "greedy" else 0
        tokens, seconds = on_host[:, greedy:], time.perf_counter() - started
        kept, ended = tokens.ne(pad), tokens.eq(eos).any(-1)
        rollout = Rollout(encoded, drawn[:, greedy:], captions, tokens, kept, ended, rewards, seconds)
        return batch | {"rollout": rollout}

    def again(self, model: OFAModel, batch: dict) -> dict:
        """The batch with its candidates on what the encoder says by now."""
        return batch | {"rollout": replace(batch["rollout"], encoded=encode_asked(model, batch))}

    def _draw(self, model: OFAModel, encoded: OFAEncoderOutput) -> Tensor:
        """Candidates [M, K, T], or with the greedy captions first [M, 1 + K, T], with an end forced a token late."""
        greedy = self.baseline == "greedy"
        longest = self.max_len_b + 1
        if self.candidates == "multinomial":
            return sample_encoded(
                model,
                encoded,
                num_samples=self.num_candidates + greedy,
                max_len_b=longest,
                greedy_first=greedy,
                **self.drawing,
            ).tokens
        search: dict[str, Any] = {"max_len_b": longest, "min_len": 1, "no_repeat_ngram_size": 0}
        found = search_encoded(model, encoded, beam_size=self.num_candidates, **search)
        if greedy:
            best = search_encoded(model, encoded, beam_size=1, **search)
            found = [first + others for first, others in zip(best, found, strict=True)]
        width = self.num_candidates + greedy
        # A search may end with fewer captions than beams where the vocabulary is tiny: the best stands in.
        filled = [[*beams, *[beams[0]] * (width - len(beams))] for beams in found]
        flat = [hypothesis.tokens for beams in filled for hypothesis in beams]
        padded = pad_sequence(flat, batch_first=True, padding_value=model.config.pad_token_id)
        return padded.view(len(found), width, -1).to(encoded.last_hidden_state.device)

    def _captions(self, drawn: Tensor, eos: int, pad: int) -> list[list[Candidate]]:
        rows, width = drawn.flatten(0, 1).tolist(), drawn.shape[1]
        texts = self.decode([[token for token in row if token not in (eos, pad)] for row in rows])
        captions = [Candidate(text, eos in row) for text, row in zip(texts, rows, strict=True)]
        return [captions[start : start + width] for start in range(0, len(captions), width)]

    def _submit(self, captions: Sequence[Sequence[Candidate]], batch: dict) -> "Future[Rewards]":
        asked = batch["asked"].requests
        soft = self.soft_references
        return self.calculator.submit(
            captions,
            [request["references"] for request in asked],
            [request["style"] for request in asked],
            [request["image_id"] for request in asked],
            [soft(request["image_id"], request["style"]) for request in asked] if soft else None,
        )

    def sampled(self) -> list[dict[str, Any]]:
        """What was sampled and scored last, a row a candidate; see `scst_samples.sample_rows`."""
        return sample_rows(*self._last, kind=self.candidates, drawn=self.num_candidates) if self._last else []

    # --- inside the wrapped forward ----------------------------------------------------------------------------------

    def __call__(self, model: OFAModel, batch: dict, step: int) -> ObjectiveOutput:
        """The summed loss of one micro-batch; waits for its rewards."""
        rollout: Rollout = batch["rollout"]
        logits, kept, target = candidate_logits(model, rollout.encoded, rollout.tokens, rollout.on_host)
        log_probs = self._log_probs(model, rollout, logits, target)
        scored = rollout.rewards.result()
        self._last = (batch["asked"].requests, rollout.captions, scored)
        total = torch.as_tensor(scored.total, dtype=torch.float32).to(logits.device, non_blocking=True)
        greedy = total[:, 0] if self.baseline == "greedy" else None
        rewards = total[:, total.shape[1] - self.num_candidates :]
        advantage = advantages(rewards, baseline=self.baseline, greedy=greedy, normalise=self.normalise_advantages)
        loss, clipped_logs = self._policy_loss(rollout, log_probs, kept, advantage.flatten())
        extra, extra_logs = self._extra_terms(model, batch, rollout, logits, kept)
        loss = loss + extra
        units = self.count(batch, step)
        with torch.no_grad():
            entropy = token_entropy(logits).sum()
        logs = {
            "loss": (loss.detach(), units),
            "entropy": (entropy, target.shape[0]),
            "sample_s": (torch.tensor(rollout.seconds), 1),
            "reward_s": (torch.tensor(scored.seconds), 1),
            **reward_logs(scored, self.num_candidates),
            **candidate_logs(rollout.on_host, model.config.eos_token_id, model.config.pad_token_id),
            **advantage_logs(rewards, advantage),
            **clipped_logs,
            **extra_logs,
        }
        return ObjectiveOutput(loss, logs)

    def _log_probs(self, model: OFAModel, rollout: Rollout, logits: Tensor, target: Tensor) -> Tensor:
        """[n] of the tokens, under what they were drawn from; of beams, which are not drawn, under the model."""
        if self.candidates == "beam":
            return token_log_probs(logits, target)
        # Sampling never draws padding, nor an end before the first word.
        lengths = rollout.kept.flatten(0, 1).sum(1)
        first = (lengths.cumsum(0) - lengths).to(target.device, non_blocking=True)
        pads = torch.full_like(target, model.config.pad_token_id)
        banned = torch.stack([pads, pads.index_fill(0, first, model.config.eos_token_id)], dim=1)
        return drawn_log_probs(logits, target, banned, likely=first, **self.drawing)

    def _policy_loss(
        self, rollout: Rollout, log_probs: Tensor, kept: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        """The policy gradient's loss, and what is clipped of it; advantages [N]."""
        if self.mask_truncated:
            advantage = advantage * rollout.ended.flatten().to(advantage.device, non_blocking=True)
        longest = self.max_len_b + 1
        if self.updates == 1:
            return policy_loss(log_probs, kept, advantage, self.reduction, longest=longest), {}
        if rollout.before is None:
            rollout.before = log_probs.detach()
        each = by_token(advantage, kept, log_probs.shape[0])
        clipped = clipped_share(log_probs, rollout.before, each, low=self.low, high=self.high)
        loss = clipped_loss(
            log_probs, rollout.before, kept, advantage, self.reduction, longest=longest, low=self.low, high=self.high
        )
        return loss, {"clipped": (clipped, len(each))}

    def _extra_terms(
        self, model: OFAModel, batch: dict, rollout: Rollout, logits: Tensor, kept: Tensor
    ) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        """The entropy, cross-entropy and divergence terms, scaled so that division by the units makes means."""
        total, logs = logits.new_zeros((), dtype=torch.float32), {}
        units = self.count(batch, 0)
        if self.cross_entropy_weight:
            target = batch["target"]
            index = torch.tensor(batch["asked"].index, device=target.device)
            hidden = model.decode(rollout.encoded, batch["decoder_input_ids"], index)
            places = target_index(batch, model.config.pad_token_id)
            expected = model.decoder.output_projection(hidden.flatten(0, 1)[places])
            losses, _ = token_losses(expected, target.flatten()[places], self.label_smoothing)
            mean = mean_by_caption(losses, target.ne(model.config.pad_token_id))
            logs["cross_entropy"] = (mean.detach(), target.shape[0])
            total = total + self.cross_entropy_weight * mean * (units / target.shape[0])
        scale = units / kept.shape[0]
        if self.entropy_weight:
            total = total - self.entropy_weight * scale * mean_by_caption(token_entropy(logits), kept)
        if self.kl_weight:
            assert self.reference is not None
            with torch.no_grad():
                encoded = encode_asked(self.reference, batch)
                before, _, _ = candidate_logits(self.reference, encoded, rollout.tokens, rollout.on_host)
            mean = mean_by_caption(divergence(logits, before), kept)
            logs["kl"] = (mean.detach(), kept.shape[0])
            total = total + self.kl_weight * scale * mean
        return total, logs


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
