"""Step 1: label-smoothed cross-entropy as OFA trains with, optionally without its worst tokens and with R-drop.

For a token with target y, vocabulary size V, smoothing ε and ε' = ε / (V - 1):

    loss = (1 - ε - ε') · (-log p(y)) + ε' · Σ_v -log p(v)

`drop_worst_ratio` leaves out the tokens of a batch with the highest loss (their captions are often wrong); a batch is
what all ranks together do in one micro-batch, so that two ranks leave out what one rank with twice the batch does.
R-drop (arXiv:2106.14448) runs every caption twice under different dropout and adds the symmetric KL divergence of both.

Answers to questions about style (`preprocessors.style_tasks`) may stand beside the captions of a batch. With weight w_k
for a token of task k, C the captions' tokens and S_k the task's:

    L = (Σ_C loss + Σ_k w_k · Σ_(S_k) loss) / |C|

Shapes: N captions, T positions, n = caption tokens that are not padding, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from models.ofa import OFAModel
from models.ofa.encoder import OFAEncoderOutput
from preprocessors.style_tasks import TASKS
from trainers.logit_sums import logit_sums
from trainers.objective import Objective, ObjectiveOutput


def token_losses(logits: Tensor, target: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Logits [n, V] and targets [n] -> label-smoothed losses [n] and negative log-likelihoods [n], in float32."""
    normaliser, own, total = logit_sums(logits, target[:, None])
    nll = normaliser - own.squeeze(1)
    if label_smoothing == 0:
        return nll, nll
    size = logits.shape[-1]
    spread = label_smoothing / (size - 1)
    # Σ_v -log p(v) = V · normaliser - Σ_v logit(v)
    return (1 - label_smoothing - spread) * nll + spread * (size * normaliser - total), nll


def kept_count(tokens: int, drop_worst_ratio: float) -> int:
    """How many of `tokens` are left after the worst share is dropped; never none, for a loss is divided by it."""
    return max(1, int(tokens * (1 - drop_worst_ratio)))


def kept_tokens(losses: Tensor, drop_worst_ratio: float) -> Tensor:
    """Indices of the losses [n] left after the worst share is dropped; of equal ones, those that stand first."""
    return losses.sort(stable=True).indices[: kept_count(losses.shape[0], drop_worst_ratio)]


def kept_of_own(losses: Tensor, gathered: Sequence[Tensor], rank: int, drop_worst_ratio: float) -> Tensor:
    """Indices of a rank's losses [n] that are left after the worst share of all ranks' losses is dropped.

    `gathered`: the losses of every rank, in the order of ranks; `losses` are those of `rank`. Of equal losses those
    stay that stand first, as in one batch of them all.
    """
    everywhere = torch.cat([other.to(losses.device) for other in gathered])
    before = sum(other.shape[0] for other in gathered[:rank])
    kept = kept_tokens(everywhere, drop_worst_ratio) - before
    return kept[(kept >= 0) & (kept < losses.shape[0])]


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
        gather: a value of every rank, in the order of ranks; None where there is one. All ranks call it alike: it is
            asked only while tokens are dropped.
        rank: of this process.
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
        gather: Callable[[Any], list[Any]] | None = None,
        rank: int = 0,
    ):
        self.pad = pad
        self.label_smoothing = label_smoothing
        self.drop_worst_ratio = drop_worst_ratio
        self.drop_worst_after = drop_worst_after
        self.rdrop_alpha = rdrop_alpha
        self.gather = gather or (lambda value: [value])
        self.rank = rank
        self.task_weights = {TASKS.index(name): weight for name, weight in task_weights.items()}

    def count(self, batch: dict, step: int) -> float:
        """Tokens of captions that the loss of a batch is summed over: what the update divides by, over all ranks.

        Where tokens are dropped, this rank's equal share of those that all ranks keep: which rank keeps how many shows
        when the losses are known.
        """
        target = batch["target"]
        if "task" in batch:
            target = target[batch["task"].eq(0)]
        tokens = int(target.ne(self.pad).sum())
        if not self._drops(step):
            return tokens
        of_all = self.gather(tokens)
        return kept_count(sum(of_all), self.drop_worst_ratio) / len(of_all)

    def __call__(self, model: OFAModel, batch: dict, step: int) -> ObjectiveOutput:
        """The summed loss of one micro-batch at update `step`."""
        kept = target_index(batch, self.pad)
        target = batch["target"].flatten()[kept]
        logits = caption_logits(model, batch, kept)
        twin = caption_logits(model, batch, kept) if self.rdrop_alpha else None
        answers: Tensor | None = None
        logs: dict[str, tuple[Tensor, float]] = {}
        if "task" in batch:
            task = batch["task"][:, None].expand_as(batch["target"]).flatten()[kept]
            answers, logs = self._answers(logits, target, task)
            logits, target = logits[task.eq(0)], target[task.eq(0)]
            twin = twin[task.eq(0)] if twin is not None else None
        loss, nll = token_losses(logits, target, self.label_smoothing)
        if twin is not None:
            twin_loss, twin_nll = token_losses(twin, target, self.label_smoothing)
        if self._drops(step):
            # Chosen by the first pass alone, so that both passes keep the same tokens.
            own = loss.detach()
            rows = kept_of_own(own, self.gather(own.cpu()), self.rank, self.drop_worst_ratio)
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


def encode(model: OFAModel, batch: Mapping[str, Any]) -> OFAEncoderOutput:
    """The encoder's pass over the prompts and images of a batch."""
    return model.encoder(
        batch["input_ids"],
        batch["patch_images"],
        batch["patch_masks"],
        batch["image_index"],
        batch.get("padded"),
        batch.get("adapters"),
    )


def target_index(batch: dict, pad: int) -> Tensor:
    """The places [n] of the targets [N·T] that hold a token: those that the batch came with, or else looked for."""
    known: Tensor | None = batch.get("target_index")
    return batch["target"].flatten().ne(pad).nonzero().flatten() if known is None else known


def caption_logits(model: OFAModel, batch: dict, kept: Tensor) -> Tensor:
    """Logits [n, V] at the caption positions `kept` [n] of [N·T]: padding never reaches the output projection."""
    rows = None if batch.get("even") else batch["encoder_index"]
    hidden = model.decode(encode(model, batch), batch["decoder_input_ids"], rows)
    return model.decoder.output_projection(hidden.flatten(0, 1)[kept])
