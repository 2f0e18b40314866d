"""Step 1: label-smoothed cross-entropy as OFA trains with, optionally without its worst tokens and with R-drop.

For a token with target y, vocabulary size V, smoothing ε and ε' = ε / (V - 1):

    loss = (1 - ε - ε') · (-log p(y)) + ε' · Σ_v -log p(v)

`drop_worst_ratio` leaves out the tokens of a batch with the highest loss (their captions are often wrong). R-drop
(arXiv:2106.14448) runs every caption twice under different dropout and adds the symmetric KL divergence of the two.

Answers to questions about style (`preprocessors.style_tasks`) may stand beside the captions of a batch. With weight w_k
for a token of task k, C the captions' tokens and S_k the task's:

    L = (Σ_C loss + Σ_k w_k · Σ_(S_k) loss) / |C|

Shapes: N captions, T positions, n = caption tokens that are not padding, V vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from models.ofa import OFAModel
from preprocessors.style_tasks import TASKS
from trainers.objective import Objective, ObjectiveOutput


def token_losses(logits: Tensor, target: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Logits [n, V] and targets [n] -> label-smoothed losses [n] and negative log-likelihoods [n], in float32."""
    logits = logits.float()
    # log p(v) = logit(v) - logsumexp: neither the log-probabilities nor their sum need a matrix of their own.
    normaliser = logits.logsumexp(-1)
    nll = normaliser - logits.gather(1, target[:, None]).squeeze(1)
    if label_smoothing == 0:
        return nll, nll
    size = logits.shape[-1]
    spread = label_smoothing / (size - 1)
    return (1 - label_smoothing - spread) * nll + spread * (size * normaliser - logits.sum(-1)), nll


def kept_count(tokens: int, drop_worst_ratio: float) -> int:
    """How many of `tokens` are left after the worst share is dropped; never none, for a loss is divided by it."""
    return max(1, int(tokens * (1 - drop_worst_ratio)))


def kept_tokens(losses: Tensor, drop_worst_ratio: float) -> Tensor:
    """Indices of the losses [n] left after the worst share is dropped."""
    return losses.topk(kept_count(losses.shape[0], drop_worst_ratio), largest=False).indices


def symmetric_kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """(KL(p‖q) + KL(q‖p)) / 2 summed over tokens, of logits [n, V] each."""
    log_p, log_q = logits_p.float().log_softmax(-1), logits_q.float().log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum() / 2


class CrossEntropy(Objective):
    """The objective of step 1.

    Args:
        pad: padding id.
        label_smoothing: ε above.
        drop_worst_ratio: share of the tokens left out, once more than `drop_worst_after` updates are done.
        rdrop_alpha: weight of R-drop's divergence; 0 runs each caption once.
        task_weights: task -> weight of its tokens, beside 1 for a caption's.
    """

    def __init__(
        self,
        *,
        pad: int,
        label_smoothing: float,
        drop_worst_ratio: float = 0.0,
        drop_worst_after: int = 0,
        rdrop_alpha: float = 0.0,
        task_weights: Mapping[str, float] = MappingProxyType({}),
    ):
        self.pad = pad
        self.label_smoothing = label_smoothing
        self.drop_worst_ratio = drop_worst_ratio
        self.drop_worst_after = drop_worst_after
        self.rdrop_alpha = rdrop_alpha
        self.task_weights = {TASKS.index(name): weight for name, weight in task_weights.items()}

    def count(self, batch: dict, step: int) -> int:
        """Tokens of captions that the loss of a batch is summed over: what the update divides by, over all ranks."""
        target = batch["target"]
        if "task" in batch:
            target = target[batch["task"].eq(0)]
        tokens = int(target.ne(self.pad).sum())
        return kept_count(tokens, self.drop_worst_ratio) if self._drops(step) else tokens

    def __call__(self, model: OFAModel, batch: dict, step: int) -> ObjectiveOutput:
        """The summed loss of one micro-batch at update `step`."""
        kept = batch["target"].ne(self.pad)
        target = batch["target"][kept]
        logits = caption_logits(model, batch, kept)
        twin = caption_logits(model, batch, kept) if self.rdrop_alpha else None
        answers: Tensor | None = None
        logs: dict[str, tuple[Tensor, float]] = {}
        if "task" in batch:
            task = batch["task"][:, None].expand_as(kept)[kept]
            answers, logs = self._answers(logits, target, task)
            logits, target = logits[task.eq(0)], target[task.eq(0)]
            twin = twin[task.eq(0)] if twin is not None else None
        loss, nll = token_losses(logits, target, self.label_smoothing)
        if twin is not None:
            twin_loss, twin_nll = token_losses(twin, target, self.label_smoothing)
        if self._drops(step):
            # Chosen by the first pass alone, so that both passes keep the same tokens.
            rows = kept_tokens(loss.detach(), self.drop_worst_ratio)
            loss, nll, logits = loss[rows], nll[rows], logits[rows]
            if twin is not None:
                twin_loss, twin_nll, twin = twin_loss[rows], twin_nll[rows], twin[rows]
        total, nll_sum = loss.sum(), nll.detach().sum()
        tokens = loss.numel()
        if twin is not None:
            divergence = symmetric_kl(logits, twin)
            logs["rdrop_kl"] = (divergence.detach() / 2, tokens)
            total = (total + twin_loss.sum() + self.rdrop_alpha * divergence) / 2
            nll_sum = (nll_sum + twin_nll.detach().sum()) / 2
        if answers is not None:
            total = total + answers
        return ObjectiveOutput(total, {"loss": (total.detach(), tokens), "nll": (nll_sum, tokens), **logs})

    def _answers(self, logits: Tensor, target: Tensor, task: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        """The weighted sum of the losses of all tasks but captioning, and the loss of each, of tokens of `task` [n]."""
        total, logs = logits.new_zeros((), dtype=torch.float32), {}
        for number, weight in self.task_weights.items():
            rows = task.eq(number)
            loss = token_losses(logits[rows], target[rows], self.label_smoothing)[0].sum()
            logs[f"loss/{TASKS[number]}"] = (loss.detach(), float(rows.sum()))
            total = total + weight * loss
        return total, logs

    def _drops(self, step: int) -> bool:
        return self.drop_worst_ratio > 0 and step > self.drop_worst_after


def caption_logits(model: OFAModel, batch: dict, kept: Tensor) -> Tensor:
    """Logits [n, V] at the caption positions where `kept` [N, T]: padding never reaches the output projection."""
    encoded = model.encoder(batch["input_ids"], batch["patch_images"], batch["patch_masks"], batch["image_index"])
    hidden = model.decode(encoded, batch["decoder_input_ids"], batch["encoder_index"])
    return model.decoder.output_projection(hidden[kept])
