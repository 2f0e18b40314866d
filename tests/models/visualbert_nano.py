"""A small VisualBERT, its inputs, and transformers' class with the same weights."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from models.visualbert import HEADS, VisualBERTConfig, VisualBERTModel

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "visual_embedding_dim": 6,
    "initializer_range": 0.3,
}
LABELS = {"vqa": {"num_labels": 5}}


def nano(head: str = "pretraining", **changes: Any) -> VisualBERTModel:
    torch.manual_seed(1)
    return VisualBERTModel(VisualBERTConfig(**(SIZES | LABELS.get(head, {}) | {"head": head} | changes))).eval()


def theirs(model: VisualBERTModel) -> nn.Module:
    """transformers' class with the same weights, in evaluation mode."""
    fields = {name: value for name, value in model.config.to_dict().items() if name != "head"}
    config = transformers.VisualBertConfig.from_dict(fields)
    other = getattr(transformers, HEADS[model.config.head])(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def inputs(head: str = "pretraining", *, types: bool = True, seed: int = 2) -> dict[str, Tensor]:
    """Three texts (or two questions with four choices) and regions, each of another length."""
    torch.manual_seed(seed)
    rows = (2, 4) if head == "vcr" else (3,)
    words, regions = 7, 4
    text_mask = torch.arange(words) < torch.randint(4, words + 1, (*rows, 1))
    box_mask = torch.arange(regions) < torch.tensor([[regions], [regions - 2], [regions - 1]])[: rows[0]]
    batch = {
        "input_ids": torch.randint(4, 60, (*rows, words)) * text_mask,
        "text_mask": text_mask.long(),
        "segment_ids": torch.randint(0, 2, (*rows, words)) * text_mask,
        "features": torch.randn(rows[0], regions, 6) * box_mask[..., None],
        "box_mask": box_mask.long(),
    }
    return batch | ({"box_types": torch.randint(0, 2, (rows[0], regions))} if types else {})


def for_theirs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same inputs as keywords of transformers' classes."""
    several = batch["input_ids"].ndim == 3
    names = {"features": "visual_embeds", "box_mask": "visual_attention_mask", "box_types": "visual_token_type_ids"}
    texts = {"input_ids": "input_ids", "text_mask": "attention_mask", "segment_ids": "token_type_ids"}
    given = {name: batch[ours] for ours, name in texts.items()}
    for ours, name in names.items():
        if ours in batch:
            tensor = batch[ours]
            shape = (len(tensor), batch["input_ids"].shape[1], *tensor.shape[1:])
            given[name] = tensor[:, None].expand(shape).contiguous() if several else tensor
    return given
