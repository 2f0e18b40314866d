"""Which parts of a picture each word of a caption was written from, as the decoder's attention has it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from data.samples import Sample
from models.ofa.looking import cross_attention
from models.ofa.modeling import OFAModel
from preprocessors.collate import collate
from preprocessors.images import ImageSource
from trainers.scst import encode_asked

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor

#: What a token begins with that begins a word.
_BLANK = "Ġ"


@dataclass(frozen=True)
class Looked:
    """A word of a caption.

    Attributes:
        share: of the attention that the image has; the prompt has the rest.
        cells: float32 [rows, columns], how the image's share is spread over it; sums to 1.
    """

    word: str
    share: float
    cells: np.ndarray


@torch.no_grad()
def looked_at(
    model: OFAModel, preprocessor: "OfaStylishImageCaptioningPreprocessor", image: ImageSource, style: str, caption: str
) -> list[Looked]:
    """Where the model looks for each word of a caption of a picture in a style; the model is in evaluation mode.

    Words are those that the model reads: without punctuation, and no more than captions have in training. Raises
    ValueError for an unknown style, a broken picture, and a caption without a word or with more than it has places for.
    """
    builder = preprocessor.builder
    batch = collate([preprocessor({"image": image, "samples": [Sample("", "", style, caption, ())]})])
    ids = batch["target"][0].tolist()[:-1]  # without the end
    if not ids:
        raise ValueError("the caption has no words: give one that the model wrote")
    most = model.config.max_position_embeddings
    if len(ids) >= most:
        raise ValueError(f"the caption has {len(ids)} tokens, and the model has places for {most - 1}: shorten it")
    names = ("input_ids", "image_index", "patch_masks", "patch_images", "decoder_input_ids")
    batch |= {name: batch[name].to(model.device) for name in names}
    weights = cross_attention(model, encode_asked(model, batch), batch["decoder_input_ids"])[0]
    cells = weights.shape[1] - batch["input_ids"].shape[1]  # the image comes first
    onto_image = weights[: len(ids), :cells].float().cpu()
    words = _words([str(one) for one in preprocessor.tokenizer.convert_ids_to_tokens(ids)])
    texts = builder.target_text(caption).split()
    return [_looked(text, onto_image[rows]) for text, rows in zip(texts, words, strict=False)]


def _words(tokens: list[str]) -> list[list[int]]:
    """The places of each word's tokens."""
    words: list[list[int]] = []
    for place, token in enumerate(tokens):
        if not words or token.startswith(_BLANK):
            words.append([])
        words[-1].append(place)
    return words


def _looked(word: str, weights: Tensor) -> Looked:
    """Of a word's tokens, attention to the cells of a square grid [tokens, cells]."""
    mean = weights.mean(0)
    side = math.isqrt(len(mean))
    assert side * side == len(mean), "pictures are made square"
    share = float(mean.sum())
    return Looked(word, share, (mean / max(share, 1e-12)).view(side, side).numpy())
