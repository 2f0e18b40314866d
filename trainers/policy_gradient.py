"""The formulas of self-critical sequence training (Rennie et al., arXiv:1612.00563) and of its relatives.

For a candidate caption y with reward r(y) and baseline b:

    loss = -(r(y) - b) · Σ_t log p(y_t | y_<t, image, prompt)

Where candidates are learnt from more than once, p / p_old, clipped, takes the place of log p (PPO, arXiv:1707.06347).

Shapes: M prompts, K candidates a prompt, N captions, T positions, n tokens that are not padding, V vocabulary.
"""

from typing import Literal

import torch
from torch import Tensor

from models.ofa.generation import filter_logits
from trainers.logit_sums import logit_sums

Baseline = Literal["greedy", "leave_one_out", "group_mean", "batch_mean"]
Normalisation = Literal["none", "group", "batch"]
Reduction = Literal["sequence", "token", "constant", "batch"]

_EPSILON = 1e-6  # against division by a deviation of 0, where all advantages are 0 as well
_MOSTLY = 0.5


def advantages(
    rewards: Tensor, *, baseline: Baseline, greedy: Tensor | None = None, normalise: Normalisation = "none"
) -> Tensor:
    """How much better than its baseline each candidate is, [M, K].

    Args:
        rewards: [M, K].
        baseline: "greedy": the reward of the greedy caption; "leave_one_out": the mean of the other candidates of the
            prompt (arXiv:2402.14740), which needs no caption more; "group_mean": the mean of all candidates of the
            prompt (GRPO, arXiv:2402.03300); "batch_mean": the mean of `rewards`.
        greedy: [M] rewards of the greedy captions, for that baseline.
        normalise: divide by the standard deviation of the rewards of the prompt, or of all.

    Raises:
        ValueError: K = 1 with "leave_one_out".
    """
    count = rewards.shape[1]
    if baseline == "greedy":
        assert greedy is not None
        result = rewards - greedy[:, None]
    elif baseline == "leave_one_out":
        if count < 2:
            raise ValueError(
                'scst.baseline = "leave_one_out" compares a candidate with the others, and scst.num_candidates is 1: '
                'raise it, or use the baseline "greedy"'
            )
        result = (rewards - rewards.mean(1, keepdim=True)) * (count / (count - 1))
    elif baseline == "group_mean":
        result = rewards - rewards.mean(1, keepdim=True)
    else:
        result = rewards - rewards.mean()
    if normalise == "none":
        return result
    deviation = rewards.std(1, correction=0, keepdim=True) if normalise == "group" else rewards.std(correction=0)
    return result / (deviation + _EPSILON)


def policy_loss(
    log_probs: Tensor, kept: Tensor, advantage: Tensor, reduction: Reduction, *, longest: int = 1
) -> Tensor:
    """The loss above, summed over captions, or over tokens where `reduction` is "batch".

    Args:
        log_probs: [n] log-probability of each token, in the order of `kept`.
        kept: [N, T] bool, false at padding; the end token is kept.
        advantage: [N].
        reduction: "sequence" sums a caption's tokens, as the formula says; "token" takes their mean, so that long
            captions do not weigh more; "constant" divides the sum by `longest` (Dr. GRPO, arXiv:2503.20783); "batch"
            sums likewise, for the caller to divide by all tokens of the batch (DAPO, arXiv:2503.14476).
        longest: most tokens of a caption.
    """
    return -(log_probs * _weights(log_probs, kept, advantage, reduction, longest)).sum()


def clipped_loss(
    log_probs: Tensor,
    before: Tensor,
    kept: Tensor,
    advantage: Tensor,
    reduction: Reduction,
    *,
    low: float,
    high: float,
    longest: int = 1,
) -> Tensor:
    """PPO's loss: -min(ρA, clip(ρ, 1 - low, 1 + high)·A) of each token, ρ = p / p_old; summed as `policy_loss` is.

    At ρ = 1 its gradient is that of `policy_loss`. `before`: [n] log-probabilities when the captions were drawn; `high`
    above `low` lets unlikely words rise further (DAPO).
    """
    ratio = (log_probs - before).exp()
    weights = _weights(log_probs, kept, advantage, reduction, longest)
    return -torch.minimum(ratio * weights, ratio.clamp(1 - low, 1 + high) * weights).sum()


@torch.no_grad()
def clipped_share(log_probs: Tensor, before: Tensor, advantage: Tensor, *, low: float, high: float) -> Tensor:
    """How many of the tokens [n] are clipped, and so not learnt from; `advantage` is that of their captions, [n]."""
    ratio = (log_probs - before).exp()
    return (((ratio > 1 + high) & (advantage > 0)) | ((ratio < 1 - low) & (advantage < 0))).sum()


def _weights(log_probs: Tensor, kept: Tensor, advantage: Tensor, reduction: Reduction, longest: int) -> Tensor:
    """The weight of each token [n] of captions with these advantages [N]."""
    if reduction == "token":
        advantage = advantage / kept.sum(1).clamp(min=1)
    elif reduction == "constant":
        advantage = advantage / longest
    return by_token(advantage, kept, log_probs.shape[0])


def by_token(values: Tensor, kept: Tensor, tokens: int) -> Tensor:
    """A value a caption [N] -> that of each of the `tokens` kept [N, T], which is not asked of the device."""
    return values.repeat_interleave(kept.sum(1), output_size=tokens)


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Logits [n, V] and tokens [n] -> log-probabilities [n], in float32."""
    normaliser, own, _ = logit_sums(logits, tokens[:, None])
    return own.squeeze(1) - normaliser


def drawn_log_probs(
    logits: Tensor,
    tokens: Tensor,
    banned: Tensor,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    likely: Tensor | None = None,
) -> Tensor:
    """Log-probabilities [n] of tokens [n] under the distribution that they were drawn from, in float32.

    Any other would make the gradient of the expected reward wrong: what truncation leaves out is never drawn.

    Args:
        logits: [n, V].
        banned: [n, C] tokens that could not be drawn at each place.
        likely: places where banned tokens may have most of the probability; None = all.
        temperature, top_k, top_p: as in `models.ofa.generation.filter_logits`.
    """
    if top_k == 0 and top_p == 1.0:
        normaliser, own, _ = logit_sums(logits, torch.cat([tokens[:, None], banned], dim=1), 1 / temperature)
        # What the banned tokens would have is divided among the others: nothing of the vocabulary's size is copied.
        lost = (own[:, 1:] - normaliser[:, None]).exp()
        again = (banned[:, :, None] == banned[:, None, :]).tril(-1).any(-1)  # banned twice, lost once
        lost = lost.masked_fill(again, 0.0).sum(1)
        found = own[:, 0] - normaliser - torch.log1p(-lost.clamp(max=_MOSTLY))
        # Where little is left, the difference would be rounding.
        rows = torch.arange(len(tokens), device=tokens.device) if likely is None else likely
        allowed = (logits[rows].float() / temperature).scatter(1, banned[rows], -torch.inf)
        return found.index_copy(0, rows, token_log_probs(allowed, tokens[rows]))
    logits = logits.float()
    allowed = filter_logits(logits.scatter(1, banned, -torch.inf), temperature=temperature, top_k=top_k, top_p=top_p)
    # What was drawn was in the set: rounding, which differs between one token a step and all at once, may not drop it.
    own = (logits / temperature).gather(1, tokens[:, None])
    return token_log_probs(allowed.scatter(1, tokens[:, None], own), tokens)


def token_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each distribution [n] of logits [n, V], with gradient."""
    logits = logits.float()
    normaliser = logits.logsumexp(-1, keepdim=True)
    return normaliser.squeeze(1) - ((logits - normaliser).exp() * logits).sum(-1)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(policy ‖ reference) in nats at each token [n], exact over the vocabulary, of logits [n, V]."""
    log_p, log_q = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def mean_by_caption(values: Tensor, kept: Tensor) -> Tensor:
    """Values [n] of the tokens kept [N, T] -> the sum over captions of each caption's mean over its tokens."""
    weights = 1 / kept.sum(1).clamp(min=1)
    return (values * by_token(weights, kept, values.shape[0])).sum()
