"""A model small enough to search exhaustively, and plain-Python versions of what the fast code does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.ofa import OFAConfig, OFAModel
from models.ofa.styles import StyleMap
from models.ofa.tokenization import OFATokenizer
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.captioner import Captioner

BOS, PAD, EOS = 0, 1, 2
PROMPTS = [[0, 5, 6, 7, 2], [0, 8, 9, 2], [0, 3, 2]]

STYLES = ("Sweet", "Cynical", "Humorous")

Batch = dict[str, Any]
Settings = dict[str, Any]


def nano_config(vocab_size: int, **changes) -> OFAConfig:
    sizes: dict[str, Any] = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "resnet_type": "resnet18",
        "image_bucket_size": 8,
        "token_bucket_size": 16,
        "dropout": 0.0,
    }
    return OFAConfig(vocab_size=vocab_size, **(sizes | changes))


def nano_model(vocab_size: int, seed: int = 0, **changes) -> OFAModel:
    """In evaluation mode, every parameter moved away from its initial value: a zero bias table would hide mistakes."""
    torch.manual_seed(seed)
    model = OFAModel(nano_config(vocab_size, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def prompt_batch() -> Batch:
    """`PROMPTS`, of different length; the last is without its image."""
    ids = torch.tensor([prompt + [PAD] * (5 - len(prompt)) for prompt in PROMPTS])
    pixels = torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "patch_images": pixels, "patch_masks": torch.tensor([True, True, False])}


def row_of(batch: Batch, row: int) -> Batch:
    """One prompt with its image, unpadded; without pixels where the image is missing."""
    ids = batch["input_ids"][row : row + 1, : len(PROMPTS[row])]
    if not batch["patch_masks"][row]:
        return {"input_ids": ids}
    return {"input_ids": ids, "patch_images": batch["patch_images"][row : row + 1]}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


def allowed_next(prefix: list[int], step: int, vocab: int, *, min_len: int, max_len_b: int, ngram: int) -> set[int]:
    """Tokens that may follow `prefix` (bos first) at `step`, word for word as the rules say."""
    allowed = set(range(vocab)) - {PAD}
    if step < min_len:
        allowed -= {EOS}
    if step >= max_len_b:
        allowed &= {EOS}
    return allowed - repeats(prefix, ngram)


def repeats(prefix: list[int], ngram: int) -> set[int]:
    """Tokens that would make an n-gram of `prefix` occur again."""
    if ngram <= 0:
        return set()
    seen = [tuple(prefix[i : i + ngram]) for i in range(len(prefix) - ngram + 1)]
    tail = tuple(prefix[len(prefix) - ngram + 1 :])
    return {gram[-1] for gram in seen if gram[:-1] == tail}


def log_probs(model: OFAModel, row: Batch, caption: list[int]) -> Tensor:
    """Teacher-forced log-probabilities [T, V] of what follows each token of `caption` (bos first), for one prompt."""
    with torch.no_grad():
        logits = model(**row, decoder_input_ids=torch.tensor([caption])).logits
    return logits[0].float().log_softmax(-1)


def nano_preprocessor(styles: Sequence[str] = STYLES, **settings: Any) -> OfaStylishImageCaptioningPreprocessor:
    """Pictures of 48 pixels, a vocabulary learnt from a few words, a style a token."""
    words = [
        "a red cat on a mat",
        "the blue dog runs in the park",
        "two birds and a tree",
        "style reply image describe",
    ]
    defaults: dict[str, Any] = {
        "prompt": " what does the image describe? write a {} reply.",
        "tokenize_style": True,
        "unknown_style": "error",
        "patch_image_size": 48,
        "max_image_size": 48,
        "max_tgt_length": 30,
        "lowercase": False,
        "flip": False,
    }
    return OfaStylishImageCaptioningPreprocessor(
        tokenizer=OFATokenizer.train(words, vocab_size=300, num_codes=8),
        style_map=StyleMap.from_styles(styles),
        **(defaults | settings),
    )


def nano_captioner(styles: Sequence[str] = STYLES, **settings: Any) -> Captioner:
    """Its captions are noise, but differ between most pictures and styles."""
    preprocessor = nano_preprocessor(styles, **settings)
    model = nano_model(len(preprocessor.tokenizer), seed=2)
    with torch.no_grad():
        model.encoder.embed_tokens.weight.mul_(4)  # prompts and words far apart
    return Captioner(model, preprocessor)


def noisy_picture(path: Path, seed: int) -> str:
    """A file of coarse coloured noise: no two look alike to any model."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
    return str(path)
