"""Asking an answerer: the most probable answers of any number of questions."""

import contextlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from evaluation.answer_judging import Prediction
from preprocessors.questions import Sees
from tasks.answering.items import QuestionItems, collator
from tasks.answering.models import Answerer
from tasks.answering.records import Records
from tasks.predicting import evaluating
from trainers.batches import to_device
from trainers.update import AUTOCAST


@torch.no_grad()
def ask(
    answerer: Answerer,
    records: Records,
    *,
    batch_size: int,
    top: int,
    sees: Sees = "both",
    dtype: str = "float32",
    num_workers: int = 0,
    progress: bool = True,
) -> list[Prediction]:
    """The `top` answers of every question, in their order.

    The network is asked in evaluation mode, on the device where it is, and left in the mode that it was in. Raises
    ValueError for a question without features, or with such as the network cannot read.
    """
    items = QuestionItems(records, answerer, sees)
    collate = collator(answerer)

    def checked(batch: list[Any]) -> Any:
        broken = next((item for item in batch if isinstance(item, Exception)), None)
        return broken if broken is not None else collate(batch)

    loader: Any = DataLoader(items, batch_size, collate_fn=checked, num_workers=num_workers)  # type: ignore[arg-type]
    device = next(answerer.model.parameters()).device
    kind = AUTOCAST[dtype]
    found: list[Prediction] = []
    with evaluating(answerer.model), tqdm(total=len(items), desc="answering", delay=2, disable=not progress) as bar:
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            mixed = torch.autocast(device.type, dtype=kind) if kind is not None else contextlib.nullcontext()
            with mixed:
                given, notes = to_device(batch, device), None
                if answerer.noted is None:
                    logits = answerer.logits(answerer.model, given)
                else:
                    logits, notes = answerer.noted(answerer.model, given)
            best = best_answers(logits, answerer, top)
            found += (
                best if notes is None else [replace(one, notes=note) for one, note in zip(best, notes, strict=True)]
            )
            bar.update(len(logits))
    return found


def best_answers(logits: Tensor, answerer: Answerer, top: int) -> list[Prediction]:
    """The `top` answers of each row of logits [B, answers], with their probabilities.

    With a binary loss that of an answer is its own, the share of people who would give it; else all sum to 1.
    """
    logits = logits.float()
    shares = logits.sigmoid() if answerer.settings.loss == "bce" else logits.softmax(1)
    values, rows = shares.topk(min(top, logits.shape[1]), dim=1)
    names = answerer.answers
    return [
        Prediction(tuple((names[row], value) for row, value in zip(places, shares_of, strict=True)))
        for places, shares_of in zip(rows.tolist(), values.tolist(), strict=True)
    ]
