"""Captions of pictures in memory: what a server and a program ask for, with every beam and its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from data.samples import Sample
from models.ofa.beams import Hypothesis
from models.ofa.modeling import OFAModel
from preprocessors.collate import collate
from preprocessors.images import ImageSource
from tasks.captioning.decoding import Guidance, decode_prompts

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor

#: A picture, and the styles that it is to be captioned in.
Asked = tuple[ImageSource, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Written:
    """A caption; `score`: its mean log-probability; `ended`: as in `Hypothesis`."""

    text: str
    score: float
    ended: bool


@torch.no_grad()
def caption_pictures(
    model: OFAModel,
    preprocessor: "OfaStylishImageCaptioningPreprocessor",
    asked: Sequence[Asked],
    search: Mapping[str, Any],
    guidance: Guidance,
) -> list[list[list[Written]]]:
    """For each picture and each of its styles the captions of all beams, best first; all in one pass.

    The ResNet sees each picture once. The model is one in evaluation mode; `search` holds the keywords of
    `generation.search_encoded`. Raises ValueError for an unknown style, with the nearest names, and a broken picture.
    """
    guidance.check(preprocessor.style_map)
    items = [
        preprocessor({"image": image, "samples": [Sample("", "", style, "", ()) for style in styles]})
        for image, styles in asked
    ]
    batch = collate(items)
    device = model.device
    moved = {name: batch[name].to(device) for name in ("input_ids", "image_index", "patch_masks", "patch_images")}
    found = decode_prompts(model, preprocessor.builder, {**batch, **moved}, guidance, search)
    written = [[written_of(preprocessor, one) for one in hypotheses] for hypotheses in found]
    rows = iter(batch["asked"].index)
    return [[written[next(rows)] for _ in styles] for _, styles in asked]


def written_of(preprocessor: "OfaStylishImageCaptioningPreprocessor", found: Hypothesis) -> Written:
    """What a search found, as text."""
    text = preprocessor.tokenizer.decode(found.tokens.tolist(), skip_special_tokens=True)
    return Written(" ".join(str(text).split()), float(found.score), found.ended)
