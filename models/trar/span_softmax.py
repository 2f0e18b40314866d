"""The masked softmaxes of several nested spans, made of one; `models.trar.routed_attention` says how.

Shapes: B images, H heads, N cells, R spans; b and h of the images and heads that are taken at a time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from models.trar.elementwise import draw
from models.trar.masked_attention import MASKED

#: A window whose part of the widest softmax is smaller than this has lost digits: each span has its own softmax then.
_FLOOR = 1e-20
#: Scores that a CPU handles at once: two megabytes of float32, which caches hold and which make up for the calls.
_AT_ONCE = 2**19


@dataclass(frozen=True)
class Part:
    """Some images and heads of a batch, and what their spans need.

    Attributes:
        at: the slices of images and heads.
        spans: which of the batch's spans these R are: all, or one.
        inside: [R, N, N] uint8, 1 inside a span.
        widest: the one of the R that holds all others.
        hidden: broadcasts to [b, 1, N, N]: what the widest span does not see; None: it sees all.
        blocked: [R, b, 1, N, 1], queries whose span holds no real key; None: there are none.
        rate, seed: of dropout.
    """

    at: tuple[slice, slice]
    spans: slice
    inside: Tensor
    widest: int
    hidden: Tensor | None
    blocked: Tensor | None
    rate: float
    seed: int

    def apart(self) -> "Iterator[Part]":
        """The same images and heads, one span after the other."""
        for span, inside in enumerate(self.inside):
            outside = inside == 0
            yield replace(
                self,
                spans=slice(span, span + 1),
                inside=inside[None],
                widest=0,
                hidden=outside if self.hidden is None else self.hidden | outside,
                blocked=None if self.blocked is None else self.blocked[span : span + 1],
                seed=self.seed + span + 1,
            )


#: Spans -> their version and what `widest_of` found: they never change, and every layer asks.
_WIDEST = WeakIdKeyDictionary()


def widest_of(outside: Tensor) -> tuple[int, bool]:
    """The span of [R, N, N] that holds all others, and whether it is the whole image; a device is asked once."""
    version = None if outside.is_inference() else outside._version
    former = _WIDEST.get(outside)
    if former is None or former[0] != version or version is None:
        widest = int(outside.flatten(1).sum(1).argmin())
        _WIDEST[outside] = former = (version, widest, not bool(outside[widest].any()))
    return former[1], former[2]


def parts(query: Tensor, outside: Tensor, padding: Tensor | None, rate: float, seed: int) -> Iterator[Part]:
    """All of a batch, query [B, H, N, E]: a few images or heads at a time on a CPU and at once elsewhere."""
    images, heads, cells, _ = query.shape
    inside = (~outside).view(torch.uint8)
    widest, whole = widest_of(outside)
    window = None if whole else outside[widest]
    blocked = None
    if padding is not None:
        seen = inside.float() @ (~padding).float().T  # [R, N, B]
        blocked = (seen == 0).transpose(1, 2)[:, :, None, :, None]
    some_images, some_heads = images, heads
    if query.device.type == "cpu":
        some_heads = min(heads, max(1, _AT_ONCE // cells**2))
        some_images = max(1, _AT_ONCE // (heads * cells**2))
    for image in range(0, images, some_images):
        rows = slice(image, image + some_images)
        hidden = window
        if padding is not None:
            hidden = padding[rows, None, None, :]
            hidden = hidden if window is None else hidden | window
        lonely = None if blocked is None else blocked[:, rows]
        if lonely is not None and lonely.device.type == "cpu" and not bool(lonely.any()):
            lonely = None  # elsewhere to look would be to wait, and zeros do no harm
        for head in range(0, heads, some_heads):
            at = (rows, slice(head, head + some_heads))
            # as many seeds as spans may be needed, should they be taken apart
            part_seed = seed + (image * heads + head) * (len(inside) + 1)
            yield Part(at, slice(None), inside, widest, hidden, lonely, rate, part_seed)


@dataclass(frozen=True)
class SpanSoftmax:
    """The softmax over the widest span of a part, and what makes the others' of it.

    Attributes:
        base: P, [b, h, N, N].
        sums: z of each span, [b, h, N, 1]; infinite where it has no real key; None, for the widest, is 1.
        kept: K of each span, [R, b, h, N, N] uint8, or None without dropout.
    """

    part: Part
    base: Tensor
    sums: list[Tensor | None]
    kept: Tensor | None

    def mix(self, share: Tensor) -> Tensor:
        """M, [b, h, N, N], for shares [b, R]: what P is multiplied with."""
        mix = torch.zeros_like(self.base)
        for span in range(len(self.sums)):
            mask, factor = self._mask(span), self._per_row(share, span)
            mix = mix.add_(factor) if mask is None else mix.addcmul_(mask, factor)
        return mix

    def weights(self, share: Tensor, mix: Tensor) -> Tensor:
        """W, [b, h, N, N]: P ∘ M, and the even weights of queries that see nothing."""
        weights = self.base * mix
        for span, lonely in self._lonely():
            even = (share[:, span, None, None, None] / weights.shape[-1]) * lonely
            weights += even if self.kept is None else self.kept[span] * even
        return weights

    def gradients(self, share: Tensor, mix: Tensor, to_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of the scores, [b, h, N, N], and of the shares, [b, R], from those of W."""
        through = self.base * to_weights
        to_scores = to_weights * mix
        to_share = []
        for span, total in enumerate(self.sums):
            mask = self._mask(span)
            row = (through if mask is None else mask * through).sum(-1, keepdim=True)
            row = row if total is None else row / total
            to_share.append(row.sum((1, 2, 3)))
            back = self._per_row(share, span) * row
            if span == self.part.widest:
                to_scores -= back
            else:
                to_scores.addcmul_(self._window(span), back, value=-1)
        to_scores *= self.base
        for span, lonely in self._lonely():
            arriving = to_weights if self.kept is None else self.kept[span] * to_weights
            to_share[span] = to_share[span] + (arriving.mean(-1, keepdim=True) * lonely).sum((1, 2, 3))
        if self.part.blocked is not None:  # an even row depends on no score
            to_scores.masked_fill_(self.part.blocked[self.part.widest], 0.0)
        return to_scores, torch.stack(to_share, 1)

    def _window(self, span: int) -> Tensor:
        return self.part.inside[span].to(self.base.dtype)

    def _mask(self, span: int) -> Tensor | None:
        """K ∘ I of a span, of the type of `base`; None: all ones. The widest window is in `base` already."""
        widest = span == self.part.widest
        if self.kept is None:
            return None if widest else self._window(span)
        kept = self.kept[span] if widest else self.kept[span] * self.part.inside[span]
        return kept.to(self.base.dtype)

    def _per_row(self, share: Tensor, span: int) -> Tensor:
        """α / z of a span: broadcasts to [b, h, N, N]."""
        total, alpha = self.sums[span], share[:, span, None, None, None]
        return alpha if total is None else alpha / total

    def _lonely(self) -> Iterator[tuple[int, Tensor]]:
        """Spans with queries that see no real key, and which; the widest softmax is even there by itself."""
        if self.part.blocked is not None:
            yield from ((span, rows) for span, rows in enumerate(self.part.blocked) if span != self.part.widest)


def span_softmax(part: Part, scores: Tensor, apart: bool | None = None) -> list[SpanSoftmax]:
    """The softmaxes of scores [b, h, N, N]: those of all spans together, or one a span where digits would be lost.

    `apart`: which of both, where it is known from a pass before; None looks, once for all spans.
    """
    if not apart:
        together = _softmax(part, scores)
        lost = [(total < _FLOOR).any() for total in together.sums if total is not None]
        if apart is False or not lost or not bool(torch.stack(lost).any()):
            return [together]
    return [_softmax(one, scores) for one in part.apart()]


def _softmax(part: Part, scores: Tensor) -> SpanSoftmax:
    base = (scores if part.hidden is None else scores.masked_fill(part.hidden, MASKED)).softmax(-1)
    kept = draw((len(part.inside), *base.shape), part.rate, base.device, part.seed) if part.rate else None
    sums: list[Tensor | None] = []
    for span, window in enumerate(part.inside):
        total = None
        if span != part.widest:
            total = (base * window.to(base.dtype)).sum(-1, keepdim=True)
            if part.blocked is not None:
                total.masked_fill_(part.blocked[span], math.inf)
        sums.append(total)
    return SpanSoftmax(part, base, sums, kept)
