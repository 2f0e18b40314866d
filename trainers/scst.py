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
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from models.ofa import OFAModel
from rewards.base import Candidate
from rewards.calculator import RewardCalculator, Rewards
from trainers.cross_entropy import target_index, token_losses
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
    mean_by_caption,
    policy_loss,
    token_entropy,
)
from trainers.rollouts import Drawing, Rollout, candidate_logits, encode_asked
from trainers.scst_logs import Logs, advantage_logs, candidate_logs, reward_logs, variety_logs
from trainers.scst_samples import sample_rows

Decode = Callable[[list[list[int]]], list[str]]
SoftReferences = Callable[[str, str], Sequence[str]]
LOGGER = logging.getLogger("stylecap")


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
        sharpness = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.drawing = Drawing(candidates, num_candidates, sharpness, max_len_b)
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
            return len(batch["asked"].requests) * self.drawing.number
        rollout: Rollout = batch["rollout"]
        return int((rollout.kept & rollout.ended[..., None] if self.mask_truncated else rollout.kept).sum())

    def close(self) -> None:
        self.calculator.close()

    # --- before the wrapped forward ----------------------------------------------------------------------------------

    def prepare(self, model: OFAModel, batch: dict) -> dict:
        """The batch with its `rollout`: candidates sampled, and on their way to be scored."""
        encoded = encode_asked(model, batch)
        started = time.perf_counter()
        greedy = self.baseline == "greedy"
        drawn = self.drawing.draw(model, encoded, greedy=greedy)
        eos, pad = model.config.eos_token_id, model.config.pad_token_id
        on_host = drawn.cpu()
        captions = self._captions(on_host, eos, pad)
        rewards = self._submit(captions, batch)
        tokens, seconds = on_host[:, int(greedy) :], time.perf_counter() - started
        kept, ended = tokens.ne(pad), tokens.eq(eos).any(-1)
        rollout = Rollout(encoded, drawn[:, int(greedy) :], captions, tokens, kept, ended, rewards, seconds)
        return batch | {"rollout": rollout}

    def again(self, model: OFAModel, batch: dict) -> dict:
        """The batch with its candidates on what the encoder says by now."""
        return batch | {"rollout": replace(batch["rollout"], encoded=encode_asked(model, batch))}

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
        return sample_rows(*self._last, kind=self.drawing.kind, drawn=self.drawing.number) if self._last else []

    # --- inside the wrapped forward ----------------------------------------------------------------------------------

    def __call__(self, model: OFAModel, batch: dict, step: int) -> ObjectiveOutput:
        """The summed loss of one micro-batch; waits for its rewards."""
        rollout: Rollout = batch["rollout"]
        logits, kept, target = candidate_logits(model, rollout.encoded, rollout.tokens, rollout.on_host)
        log_probs = self.drawing.log_probs(model, rollout, logits, target)
        scored = rollout.rewards.result()
        self._last = (batch["asked"].requests, rollout.captions, scored)
        total = torch.as_tensor(scored.total, dtype=torch.float32).to(logits.device, non_blocking=True)
        greedy = total[:, 0] if self.baseline == "greedy" else None
        rewards = total[:, total.shape[1] - self.drawing.number :]
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
            **reward_logs(scored, self.drawing.number),
            **candidate_logs(rollout.on_host, model.config.eos_token_id, model.config.pad_token_id),
            **advantage_logs(rewards, advantage),
            **self._variety(batch, rollout),
            **clipped_logs,
            **extra_logs,
        }
        return ObjectiveOutput(loss, logs)

    def _variety(self, batch: dict, rollout: Rollout) -> Logs:
        asked = batch["asked"].requests
        texts = [[one.text for one in group[-self.drawing.number :]] for group in rollout.captions]
        return variety_logs([one["image_id"] for one in asked], [one["style"] for one in asked], texts)

    def _policy_loss(
        self, rollout: Rollout, log_probs: Tensor, kept: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        """The policy gradient's loss, and what is clipped of it; advantages [N]."""
        if self.mask_truncated:
            advantage = advantage * rollout.ended.flatten().to(advantage.device, non_blocking=True)
        longest = self.drawing.max_len_b + 1
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
