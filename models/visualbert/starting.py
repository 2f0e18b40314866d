"""How a VisualBERT for a task starts: from a VisualBERT with another head, and where its regions lie."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.lxmert.answers import check_answers, matching_rows, moved_rows
from models.visualbert.conversion import load_body, read_checkpoint
from models.visualbert.modeling import VisualBERTModel

logger = logging.getLogger("stylecap")


@torch.no_grad()
def start_from_visualbert(
    model: VisualBERTModel,
    source: str | Path,
    *,
    answers: Sequence[str] | None = None,
    source_answers: Sequence[str] | None = None,
) -> None:
    """Start `model` from a checkpoint of any head, in place.

    The rows of a head for answers are moved by normalised answer, and an answer that is new starts at 0. Where nothing
    tells which answers the source's head scores it stays as it was built.

    Args:
        answers: the list that the model's head scores.
        source_answers: the list that the source's head scores; None is what its `config.json` says.

    Raises:
        ValueError: as `load_body`; a list that does not fit the source's head.
    """
    built = {name: tensor.clone() for name, tensor in model.cls.state_dict().items()}
    load_body(model, source)
    state, config = read_checkpoint(source)
    if model.config.head != "vqa" or config.head != "vqa" or answers is None:
        return
    known = config.answers if source_answers is None else source_answers
    if known is None:
        model.cls.load_state_dict(built)
        logger.info("%s: nothing tells the answers of its head, which starts anew", source)
        return
    try:
        check_answers(known, len(state["cls.weight"]))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    rows = matching_rows(answers, known)
    model.cls.weight, model.cls.bias = (
        torch.nn.Parameter(tensor) for tensor in moved_rows(state["cls.weight"], state["cls.bias"], rows)
    )
    logger.info("%s: its head knows %d of the %d answers", source, sum(row is not None for row in rows), len(rows))


@torch.no_grad()
def settle_regions(model: VisualBERTModel, regions: Iterable[Tensor], *, box_numbers: int = 0) -> None:
    """Start the projection of regions so that the mean region becomes 0, and boxes count as much as features.

    What follows normalises each region, and features, which are never negative, share most of what they are: what tells
    them apart would be a small part of what is left. The `box_numbers` last columns are few, and between 0 and 1:
    their weights are scaled until they vary the projected regions as much as the others do.

    Args:
        regions: what the model reads of some images, each [N, config.visual_embedding_dim].
    """
    layer = model.visual_bert.embeddings.visual_projection
    rows = torch.cat([one.flatten(0, -2).float() for one in regions]).to(layer.weight)
    mean = rows.mean(0)
    if box_numbers:
        apart = (rows - mean).square().mean(0)
        seen, placed = apart[:-box_numbers].sum(), apart[-box_numbers:].sum()
        if seen > 0 and placed > 0:
            layer.weight[:, -box_numbers:] *= (seen / placed).sqrt()
    layer.bias.copy_(-layer.weight @ mean)
