"""A made batch for any VisualBERT, to compare weights with."""

import torch
from torch import Tensor

from models.visualbert.configuration import VisualBERTConfig

_CHOICES = 4


def example_batch(
    config: VisualBERTConfig, *, rows: int = 2, words: int = 12, regions: int = 10, seed: int = 0
) -> dict[str, Tensor]:
    """Random texts and regions of different lengths, as keywords of `VisualBERTModel.forward` and `everything`.

    The same for two models with equal vocabulary, head and feature width, wherever it is made.
    """
    generator = torch.Generator().manual_seed(seed)
    words = min(words, config.max_position_embeddings)
    texts = (rows, _CHOICES) if config.head == "vcr" else (rows,)
    lengths = words - torch.arange(rows) % (words // 2)
    text_mask = (torch.arange(words) < lengths[:, None]).long()
    if config.head == "vcr":
        text_mask = text_mask[:, None].expand(*texts, words).contiguous()
    box_mask = (torch.arange(regions) < (regions - torch.arange(rows) % regions)[:, None]).long()
    features = torch.rand(rows, regions, config.visual_embedding_dim, generator=generator)
    return {
        "input_ids": torch.randint(0, config.vocab_size, (*texts, words), generator=generator) * text_mask,
        "text_mask": text_mask,
        "segment_ids": torch.randint(0, config.type_vocab_size, (*texts, words), generator=generator) * text_mask,
        "features": features * box_mask[..., None],
        "box_mask": box_mask,
        "box_types": torch.randint(0, config.type_vocab_size, (rows, regions), generator=generator),
    }
