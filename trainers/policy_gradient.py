"""The formulas of self-critical sequence training (Rennie et al., arXiv:1612.00563), as pure functions.

For a candidate caption y with reward r(y) and baseline b:

    loss = -(r(y) - b) · Σ_t log p(y_t | y_<t, image, prompt)

Shapes: M prompts, K candidates a prompt, N captions, T positions, n tokens that are not padding, V vocabulary.
"""

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["greedy", "leave_one_out", "batch_mean"]
Normalisation = Literal["none", "group", "batch"]
Reduction = Literal["sequence", "token"]

_EPSILON = 1e-6  # against division by a deviation of 0, where all advantages are 0 as well


def advantages(
    rewards: Tensor, *, baseline: Baseline, greedy: Tensor | None = None, normalise: Normalisation = "none"
) -> Tensor:
    """How much better than its baseline each candidate is, [M, K].

    Args:
        rewards: [M, K].
        baseline: "greedy": the reward of the greedy caption; "leave_one_out": the mean of the other candidates of the
            prompt (arXiv:2402.14740), which needs no caption more; "batch_mean": the mean of `rewards`.
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
    else:
        result = rewards - rewards.mean()
    if normalise == "none":
        return result
    deviation = rewards.std(1, correction=0, keepdim=True) if normalise == "group" else rewards.std(correction=0)
    return result / (deviation + _EPSILON)


def policy_loss(log_probs: Tensor, kept: Tensor, advantage: Tensor, reduction: Reduction) -> Tensor:
    """The loss above, summed over captions.

    Args:
        log_probs: [n] log-probability of each token, in the order of `kept`.
        kept: [N, T] bool, false at padding; the end token is kept.
        advantage: [N].
        reduction: "sequence" sums a caption's tokens, as the formula says; "token" takes their mean, so that long
            captions do not weigh more.
    """
    weights = advantage if reduction == "sequence" else advantage / kept.sum(1).clamp(min=1)
    return -(log_probs * by_token(weights, kept, log_probs.shape[0])).sum()


def by_token(values: Tensor, kept: Tensor, tokens: int) -> Tensor:
    """A value a caption [N] -> that of each of the `tokens` kept [N, T], which is not asked of the device."""
    return values.repeat_interleave(kept.sum(1), output_size=tokens)


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Logits [n, V] and tokens [n] -> log-probabilities [n], in float32."""
    logits = logits.float()
    return logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(-1)


@torch.no_grad()
def token_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each distribution [n] of logits [n, V]."""
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
