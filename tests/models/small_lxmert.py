"""Small LXMERTs and inputs for tests."""

from typing import Any, TypeVar

import torch
from torch import Tensor

from models.lxmert import LxmertConfig
from models.lxmert.modeling import LxmertBase

Model = TypeVar("Model", bound=LxmertBase)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(15))]
ANSWERS = ["yes", "no", "red", "two"]
KINDS = ("none", "ft_same", "ft", "ft_fixed")


def config(**fields: Any) -> LxmertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "l_layers": 2,
        "x_layers": 2,
        "r_layers": 2,
        "visual_feat_dim": 5,
        "num_object_labels": 4,
        "num_attr_labels": 3,
        "num_qa_labels": len(ANSWERS),
        "max_position_embeddings": 10,
        "dictionary_words": 6,
        "dictionary_boxes": 7,
    }
    return LxmertConfig(**(sizes | fields))


def lively(model: Model) -> Model:
    """In evaluation mode, with weights that are large enough for differences to show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def inputs(batch: int = 3, words: int = 7, boxes: int = 4, *, images: int = 1, width: int = 5) -> dict[str, Tensor]:
    """Sentences of different lengths, and images; two of each where `images` is 2."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(words)[None] < torch.tensor([words - 1 - row % 4 for row in range(batch)])[:, None]
    shape = (batch, images, boxes) if images > 1 else (batch, boxes)
    return {
        "input_ids": torch.randint(5, len(VOCABULARY), (batch, words), generator=generator) * mask,
        "attention_mask": mask.long(),
        "visual_feats": torch.rand(*shape, width, generator=generator),
        "visual_pos": torch.rand(*shape, 4, generator=generator),
    }
