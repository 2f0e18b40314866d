"""The state of a beam search, kept as tensors so that no step waits for the device; it is asked every few steps which
prompts are finished, and what goes on for those until then is not stored.

The semantics are those of fairseq's `SequenceGenerator`, which OFA was published with: a prompt is finished when as
many hypotheses as beams have ended; an end counts only among the best `beams` candidates of a step; scores are divided
by length.

Shapes: b prompts still searched (of B), k beams, c candidates of a step, t tokens so far, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: Steps between looks at what has ended, where a look waits for the device. On a CPU it costs nothing, and rows that
#: end at once are steps saved.
LOOK_EVERY = 4


def look_every(device: torch.device) -> int:
    """Steps between looks on a device."""
    return 1 if device.type == "cpu" else LOOK_EVERY


@dataclass(frozen=True)
class Hypothesis:
    """A finished caption: `tokens` int64 [T] with eos and without bos; `score` is its mean log-probability, where the
    mean divides by T ** length_penalty; `ended`: false where it was cut at the greatest length, and the model would
    have gone on."""

    tokens: Tensor
    score: float
    ended: bool = True


class Finished:
    """The hypotheses that ended.

    Args:
        prompts, beam_size, length: at most `beam_size` hypotheses of at most `length` tokens for each prompt.
        like: int64 tensor on the device to use.
    """

    def __init__(self, prompts: int, beam_size: int, length: int, like: Tensor):
        # A place more than is kept: what does not end goes there, so that no shape depends on what did.
        self.beam_size = beam_size
        self.tokens = like.new_zeros(prompts, beam_size + 1, length)
        self.lengths = like.new_zeros(prompts, beam_size + 1)
        self.scores = torch.full((prompts, beam_size + 1), -torch.inf, device=like.device)
        self.ended = torch.ones_like(self.lengths, dtype=torch.bool)
        self.count = like.new_zeros(prompts)

    def add(
        self, prompts: Tensor, ended: Tensor, tokens: Tensor, scores: Tensor, unforced: Tensor | None = None
    ) -> None:
        """Store those of `tokens` [b, k, t] where `ended` [b, k], in order, until a prompt has `beam_size` of them.

        `prompts` [b] names the rows among all prompts. `unforced` [b, k]: whether the end was the model's own; None
        where no end was forced.
        """
        slot = self.count[prompts, None] + ended.cumsum(1) - 1
        stored = ended & (slot < self.beam_size)
        place = (prompts[:, None], slot.where(stored, self.beam_size))
        self.tokens[(*place, slice(None, tokens.shape[2]))] = tokens
        self.lengths[place] = torch.full_like(slot, tokens.shape[2])
        self.scores[place] = scores
        if unforced is not None:
            self.ended[place] = unforced
        self.count[prompts] += stored.sum(1)

    def best_first(self) -> list[list[Hypothesis]]:
        """The hypotheses of every prompt, best first."""
        scores, order = self.scores[:, : self.beam_size].sort(dim=1, descending=True, stable=True)
        tokens = self.tokens.gather(1, order[..., None].expand(-1, -1, self.tokens.shape[2])).cpu()
        lengths, ended = self.lengths.gather(1, order).tolist(), self.ended.gather(1, order).tolist()
        return [
            [
                Hypothesis(tokens[row, beam, : lengths[row][beam]].clone(), score, ended[row][beam])
                for beam, score in enumerate(beams)
                if lengths[row][beam]
            ]
            for row, beams in enumerate(scores.tolist())
        ]


@dataclass(frozen=True)
class Candidates:
    """The best continuations of a step, best first: total log-probability, token, and place among all beams, [b, c]."""

    scores: Tensor
    tokens: Tensor
    rows: Tensor


class Beams:
    """The hypotheses that are still growing.

    Attributes:
        active: [b] the prompts that are still searched.
        tokens: [b·k, t] what the beams hold, bos first.
        scores: [b, k] their log-probabilities.
        look: steps between looks at which prompts are finished.
        dead: [b, k] places that an ended hypothesis keeps, because nothing was left to fill them.
    """

    def __init__(self, prompts: int, beams: int, max_len: int, start: Tensor, eos: int, like: Tensor):
        device = like.device
        self.look = look_every(device)
        self.beams, self.eos, self.last_step = beams, eos, max_len
        self.active = torch.arange(prompts, device=device)
        self.tokens = start[:, None]
        self.scores = torch.zeros(prompts, beams, device=device)
        self.dead = torch.zeros(prompts, beams, dtype=torch.bool, device=device)
        self.finished = Finished(prompts, beams, max_len + 1, like)

    def advance(
        self, log_probs: Tensor, length_penalty: float, unforced: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None] | None:
        """Grow every beam by one token of `log_probs` [b·k, V].

        `unforced` [b·k], of the last step: whether the model itself ends there.

        Returns:
            None when all prompts are seen to be finished; else the place among the former beams that each beam [b·k]
            goes on from, and, if prompts were seen to be finished, the rows of the former `active` that stay.
        """
        step = self.tokens.shape[1] - 1
        best = self._candidates(log_probs.view(self.active.numel(), self.beams, -1), step)
        dead = self.dead[:, : best.tokens.shape[1]]
        ends = best.tokens.eq(self.eos) & best.scores.isfinite()
        ends[:, : self.beams] &= ~dead
        self._finish(best, ends[:, : self.beams], length_penalty, unforced)
        if step == self.last_step:
            return None
        stay = None
        if (step + 1) % self.look == 0:
            stay = (self.finished.count[self.active] < self.beams).nonzero().flatten()
            if not stay.numel():
                return None
        taken = ends.clone()
        taken[:, : self.beams] |= dead
        return self._continue(best, taken, stay if stay is None or stay.numel() < self.active.numel() else None)

    def _candidates(self, log_probs: Tensor, step: int) -> Candidates:
        # All beams are alike at first: only one of them may propose.
        totals = log_probs[:, :1] if step == 0 else log_probs + self.scores[..., None]
        # Twice as many candidates as beams: if half of them end, enough are left to go on with.
        count = min(2 * self.beams, totals[0].numel() - 1)
        scores, index = totals.flatten(1).topk(count)
        first = torch.arange(self.active.numel(), device=index.device)[:, None] * self.beams
        vocabulary = log_probs.shape[-1]
        return Candidates(scores, index % vocabulary, index // vocabulary + first)

    def _finish(self, best: Candidates, ends: Tensor, length_penalty: float, unforced: Tensor | None) -> None:
        length = self.tokens.shape[1]
        rows, last = best.rows[:, : self.beams], best.tokens[:, : self.beams, None]
        tokens = torch.cat([self.tokens[rows][..., 1:], last], dim=-1)
        own = None if unforced is None else unforced[rows]
        self.finished.add(self.active, ends, tokens, best.scores[:, : self.beams] / length**length_penalty, own)

    def _continue(self, best: Candidates, taken: Tensor, stay: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Go on with the first candidates that are not `taken` [b, c], for the prompts that `stay`; None: for all."""
        count = taken.shape[1]
        line = torch.arange(count, device=taken.device) + count * taken
        place, chosen = line.topk(min(self.beams, count), dim=1, largest=False)
        dead, scores = place >= count, best.scores.gather(1, chosen)
        rows, tokens = best.rows.gather(1, chosen), best.tokens.gather(1, chosen)
        if stay is not None:
            dead, scores, rows, tokens = dead[stay], scores[stay], rows[stay], tokens[stay]
            self.active = self.active[stay]
        self.dead, self.scores = dead, scores
        kept = rows.flatten()
        self.tokens = torch.cat([self.tokens[kept], tokens.view(-1, 1)], dim=1)
        return kept, stay
