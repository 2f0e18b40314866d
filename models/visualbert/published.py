"""Numbers printed in 2021 for the nine released checkpoints, computed again with a loaded model.

The recipe is that of the notes which hold the numbers, odd in places: one text, a hundred regions of ones with visual
type 1, and, in pre-training, labels of 0 that count at every padded position. It says whether weights are those of a
release; it is no way to use them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.comparison import Difference, compare_outputs
from models.visualbert.modeling import VisualBERTModel

#: Text(s) -> word pieces without special tokens.
Pieces = Callable[[str], Sequence[int]]

_LENGTH, _REGIONS = 128, 100
_CLS, _SEP = 101, 102
_WELCOME = "Welcome to use paddle paddle and paddlenlp!"
_MASKED, _WHOLE = "The capital of France is {mask}.", "The capital of France is Paris."
_ANSWER, _CLASS, _CHOICE = 50, 1, 0
#: The file of a release -> its name.
RELEASES = {
    "vqa_fine_tuned": "visualbert-vqa",
    "vqa_pre_trained": "visualbert-vqa-pre",
    "vqa_coco_pre_trained": "visualbert-vqa-coco-pre",
    "nlvr2_fine_tuned": "visualbert-nlvr2",
    "nlvr2_pre_trained": "visualbert-nlvr2-pre",
    "nlvr2_coco_pre_trained": "visualbert-nlvr2-coco-pre",
    "vcr_fine_tune": "visualbert-vcr",
    "vcr_pre_train": "visualbert-vcr-pre",
    "vcr_coco_pre_train": "visualbert-vcr-coco-pre",
}
_HEADS = {"pre": "pretraining", "vqa": "vqa", "nlvr2": "nlvr2", "vcr": "vcr"}


def published_entry(content: Any, release: str, file: object) -> Mapping[str, Any]:
    """The numbers of one release in the content of a file of them. ValueError where it has none."""
    models = content.get("models") if isinstance(content, Mapping) else None
    found = {one["model"]: one for one in models or () if isinstance(one, Mapping) and "model" in one}
    name = RELEASES.get(release, release)
    if name not in found:
        raise ValueError(f"{file} has no numbers of {name}: --release names one of {', '.join(found) or 'none'}")
    return found[name]


def compare_published(model: VisualBERTModel, entry: Mapping[str, Any], pieces: Pieces) -> list[Difference]:
    """How far `model` is from the printed numbers of one release; one row a number or group of numbers.

    Args:
        entry: an element of `models` in the file of published numbers: `kind`, `loss`, and `logits`, or `rows` and
            `seq_relationship`.
        pieces: of bert-base-uncased.

    Raises:
        ValueError: the model has another head.
    """
    head = _HEADS.get(entry["kind"])
    if model.config.head != head:
        raise ValueError(f"the numbers are those of head {head!r}, but the model's is {model.config.head!r}")
    training = model.training
    model.eval()
    try:
        found = _computed(model, entry, pieces)
    finally:
        model.train(training)
    return compare_outputs(found, _printed(entry))


def _computed(model: VisualBERTModel, entry: Mapping[str, Any], pieces: Pieces) -> dict[str, Tensor]:
    kind = entry["kind"]
    if kind == "pre":
        return _pretraining(model, entry, pieces)
    if kind == "vcr":
        texts = [(_WELCOME, _WELCOME), ("Use it.", "Like it.")]
        outputs = _outputs(model, _batch(model, texts, pieces, choices=True))
        return {"loss": F.cross_entropy(outputs["logits"], torch.tensor([_CHOICE])), "logits": outputs["logits"]}
    logits = _outputs(model, _batch(model, [(_WELCOME, None)], pieces))["logits"]
    if kind == "nlvr2":
        return {"loss": F.cross_entropy(logits, torch.tensor([_CLASS])), "logits": logits}
    logits = logits.log_softmax(-1)
    return {"loss": -logits[0, _ANSWER], "logits": torch.cat([logits[:, :3], logits[:, -3:]], dim=1)}


def _outputs(model: VisualBERTModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    outputs = model.everything(**{name: tensor.to(device) for name, tensor in batch.items()})
    return {name: tensor.float().cpu() for name, tensor in outputs.items()}


def _pretraining(model: VisualBERTModel, entry: Mapping[str, Any], pieces: Pieces) -> dict[str, Tensor]:
    outputs = _outputs(model, _batch(model, [(_MASKED, None)], pieces))
    words, matches = outputs["word_logits"][0], outputs["logits"]
    labels = torch.zeros(len(words), dtype=torch.long)
    whole = torch.tensor(_ids(_WHOLE, None, pieces)[0])
    labels[: len(whole)] = whole
    loss = F.cross_entropy(words, labels) + F.cross_entropy(matches, torch.tensor([1]))
    rows = {f"row {row}": torch.cat([words[int(row)][:3], words[int(row)][-3:]]) for row in entry["rows"]}
    return {"loss": loss, **rows, "seq_relationship": matches[0]}


def _printed(entry: Mapping[str, Any]) -> dict[str, Tensor]:
    printed = {"loss": torch.tensor(entry["loss"])}
    if entry["kind"] == "pre":
        printed |= {f"row {row}": torch.tensor(values).flatten() for row, values in entry["rows"].items()}
        return printed | {"seq_relationship": torch.tensor(entry["seq_relationship"])}
    logits = entry["logits"]
    values = logits["values"] if "values" in logits else logits["first3"] + logits["last3"]
    return printed | {"logits": torch.tensor([values])}


def _batch(
    model: VisualBERTModel, texts: Sequence[tuple[str, str | None]], pieces: Pieces, *, choices: bool = False
) -> dict[str, Tensor]:
    """Texts padded to 128 beside the regions; with `choices` they are those of one image."""
    ids, mask, segments = (torch.zeros(len(texts), _LENGTH, dtype=torch.long) for _ in range(3))
    for row, (first, second) in enumerate(texts):
        of_text, of_segments = _ids(first, second, pieces)
        ids[row, : len(of_text)] = torch.tensor(of_text)
        segments[row, : len(of_text)] = torch.tensor(of_segments)
        mask[row, : len(of_text)] = 1
    rows = 1 if choices else len(texts)
    ones = torch.ones(rows, _REGIONS, dtype=torch.long)
    shape = (1, len(texts), _LENGTH) if choices else (len(texts), _LENGTH)
    return {
        "input_ids": ids.view(shape),
        "text_mask": mask.view(shape),
        "segment_ids": segments.view(shape),
        "features": torch.ones(rows, _REGIONS, model.config.visual_embedding_dim),
        "box_mask": ones,
        "box_types": ones,
    }


def _ids(first: str, second: str | None, pieces: Pieces) -> tuple[list[int], list[int]]:
    """A text or a pair as BERT takes it, and its segments."""
    ids = [_CLS, *pieces(first), _SEP]
    segments = [0] * len(ids)
    if second is not None:
        rest = [*pieces(second), _SEP]
        ids, segments = ids + rest, segments + [1] * len(rest)
    return ids, segments
