"""The vector of a style that a trained model does not know, learnt from a few captioned pictures.

One row is learnt by cross-entropy, as step 1 learns; every weight of the model stays as it is. What the image tower
makes of the pictures is computed once.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data.samples import Sample
from models.ofa.mixtures import DESCRIPTION, vector_of
from models.ofa.modeling import OFAModel
from models.ofa.tokenization import PAD
from preprocessors.collate import collate
from tasks.captioning.mixing import reading_rows
from tasks.predicting import evaluating
from trainers.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor

#: Of Adam, for each coordinate, in units of the size that those of the styles' rows have.
RATE = 0.1
STEPS = 100
#: Images of an update.
BATCH = 8
_NAME = "the style to learn"


@dataclass(frozen=True)
class LearntStyle:
    """`vector` [D], and the mean negative log-likelihood of a token of the examples before and after."""

    vector: Tensor
    before: float
    after: float


def start_of(model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", description: str | None) -> Tensor:
    """Where a style's vector [D] starts from: the mean of a description's words, or of all styles of the model.

    Raises ValueError for a description without words.
    """
    table = model.encoder.embed_tokens.weight.detach()
    known, tokenizer = preprocessor.style_map, preprocessor.tokenizer
    if description is None:
        return table[list(known.token_ids(tokenizer).values())].float().mean(0)
    described = vector_of(f"{DESCRIPTION} {description}", table, known, tokenizer)
    assert described is not None, "a description has a vector"
    return described.float()


def learn_style(
    model: OFAModel,
    preprocessor: "OfaStylishImageCaptioningPreprocessor",
    examples: Sequence[Sample],
    start: Tensor,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    seed: int = 0,
) -> LearntStyle:
    """The vector that makes the captions of `examples` likely, whatever styles these name.

    Args:
        start: [D], what the vector begins as.
        steps: updates, each of `BATCH` images; the step size falls to 0.
        rate: as `RATE`.
        seed: of the order of the images.

    Raises:
        ValueError: a picture that cannot be read, or a model that reads styles as words.
    """
    if not preprocessor.builder.prompt.tokenize_style:
        raise ValueError(
            "this model reads styles as words (style.tokenize_style = false), so there is no token to learn: train one "
            "with style.tokenize_style = true"
        )
    rows = start.detach().float().clone()[None].to(model.device)
    rows.requires_grad_(True)
    with evaluating(model), _frozen(model), reading_rows(model, preprocessor, [_NAME], rows) as reader:
        items = _items(model, reader, examples)
        before = _loss(model, items)
        _update(model, preprocessor, items, rows, steps, rate, torch.Generator().manual_seed(seed))
        return LearntStyle(rows.detach()[0].clone(), before, _loss(model, items))


def _update(
    model: OFAModel,
    preprocessor: "OfaStylishImageCaptioningPreprocessor",
    items: Sequence[dict[str, Any]],
    rows: Tensor,
    steps: int,
    rate: float,
    generator: torch.Generator,
) -> None:
    """`steps` updates of `rows` [1, D], in place."""
    known = list(preprocessor.style_map.token_ids(preprocessor.tokenizer).values())
    size = model.encoder.embed_tokens.weight.detach()[known].float().square().mean().sqrt().item()
    optimizer = torch.optim.Adam([rows], lr=rate * size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(steps):
        drawn = torch.randperm(len(items), generator=generator)[:BATCH].tolist()
        total, tokens = _summed(model, [items[place] for place in drawn])
        (total / tokens).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _items(
    model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", examples: Sequence[Sample]
) -> list[dict[str, Any]]:
    """An item an image, with what the tower makes of it in place of its pixels."""
    by_image: dict[str, list[Sample]] = {}
    for one in examples:
        by_image.setdefault(one.image, []).append(replace(one, style=_NAME))
    items = [preprocessor({"image": image, "samples": samples}) for image, samples in by_image.items()]
    with torch.no_grad():
        for item in items:
            item["patch_image"] = model.encoder.embed_images(item["patch_image"][None].to(model.device))[0]
    return items


def _summed(model: OFAModel, items: Sequence[dict[str, Any]]) -> tuple[Tensor, float]:
    """The negative log-likelihood of the captions of some items, and how many tokens they have."""
    batch = {name: one.to(model.device) if isinstance(one, Tensor) else one for name, one in collate(items).items()}
    objective = CrossEntropy(pad=PAD, label_smoothing=0.0)
    return objective(model, batch, 0).loss_sum, objective.count(batch, 0)


@torch.no_grad()
def _loss(model: OFAModel, items: Sequence[dict[str, Any]]) -> float:
    """A token's, over all items."""
    parts = [_summed(model, items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    return sum(float(total) for total, _ in parts) / sum(tokens for _, tokens in parts)


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No weight asks for a gradient, until it ends."""
    learning = [one for one in model.parameters() if one.requires_grad]
    for one in learning:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learning:
            one.requires_grad_(True)
