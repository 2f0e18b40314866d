"""The best captions of a batch of prompts, plainly or guided away from other styles and from the missing image.

A guided prompt is searched with its image in at most `MOST_STYLES` other styles of the style map beside it: what a
caption is does not depend on what else is asked for. Prompts whose strengths are 0 are searched plainly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.ofa.beams import Hypothesis
from models.ofa.encoder import OFAEncoderOutput
from models.ofa.generation import search_encoded
from models.ofa.guidance import Contrast, search_guided
from models.ofa.mixtures import styles_in
from models.ofa.modeling import OFAModel
from models.ofa.saving import ENDINGS
from models.ofa.styles import StyleMap
from models.ofa.tokenization import PAD
from trainers.rollouts import encode_asked

if TYPE_CHECKING:
    from preprocessors.items import ItemBuilder

#: Other styles that a guided prompt is contrasted with: of hundreds, a few say what is common to all.
MOST_STYLES = 8


@dataclass(frozen=True)
class Guidance:
    """How far decoding goes away from what would be said in other styles, and without the image.

    Attributes:
        style: one strength, or that of each style named (by whatever case), 0 for others.
        image: the strength of the image.
    """

    style: float | Mapping[str, float] = 0.0
    image: float = 0.0

    def strengths(self, styles: Sequence[str], known: StyleMap) -> list[float]:
        """Of the style of each prompt. ValueError, with the nearest names, for a strength of an unknown style."""
        if not isinstance(self.style, Mapping):
            return [float(self.style)] * len(styles)
        by_style = {known.lookup(name): float(strength) for name, strength in self.style.items()}
        # Of a mixture, the largest strength of the styles in it.
        return [max((by_style.get(name, 0.0) for name in styles_in(style, known)), key=abs) for style in styles]

    def check(self, known: StyleMap) -> None:
        """ValueError for styles that are not there to guide towards or away from."""
        if any(self.strengths(list(known.tokens), known)) and len(known.tokens) < 2:
            raise ValueError("eval.style_guidance needs a model of at least two styles: set it to 0")


@torch.no_grad()
def decode_prompts(
    model: OFAModel, builder: "ItemBuilder", batch: Mapping[str, Any], guidance: Guidance, search: Mapping[str, Any]
) -> list[list[Hypothesis]]:
    """The best captions of what a batch on the model's device asks for (`Asked`), best first.

    Args:
        batch: what `preprocessors.collate` makes; `patch_masks` false for an image that is absent.
        search: keywords of `generation.search_encoded`, and words in "no_end_after" that no caption is to end with.
    """
    leading = builder.tokenizer.encode_batch([f" {word}" for word in search.get(ENDINGS, ())])
    search = {name: value for name, value in search.items() if name != ENDINGS} | {"leading": leading}
    styles = [request["style"] for request in batch["asked"].requests]
    each = guidance.strengths(styles, builder.prompt.style_map)
    steered = [row for row, strength in enumerate(each) if strength or guidance.image]
    if not steered:
        return search_encoded(model, encode_asked(model, batch), **search)
    conditions = _Conditions(model, builder, batch)
    image_of = batch["image_index"].tolist()
    images = [image_of[prompt] for prompt in batch["asked"].prompts]
    found: list[list[Hypothesis]] = [[] for _ in styles]
    plain = [row for row in range(len(styles)) if row not in set(steered)]
    if plain:
        encoded = conditions.seen([(images[row], styles[row]) for row in plain])
        _put(found, plain, search_encoded(model, encoded, **search))
    asked = [(images[row], styles[row]) for row in steered]
    contrasts = conditions.contrasts(asked, [each[row] for row in steered], guidance.image)
    _put(found, steered, search_guided(model, conditions.seen(asked), contrasts, **search))
    return found


def other_styles(style: str, styles: Sequence[str], most: int, within: Sequence[str] = ()) -> list[str]:
    """At most `most` of the other styles: those after `style` in the list, which goes round.

    `within`: the styles that a mixture is made of; they are no other ones.
    """
    asked = [style, *within]
    start = next((styles.index(one) + 1 for one in asked if one in styles), 0)
    return [other for other in [*styles[start:], *styles[:start]] if other not in asked][:most]


class _Conditions:
    """What a batch's images and styles are encoded as; each image once with every prompt."""

    def __init__(self, model: OFAModel, builder: "ItemBuilder", batch: Mapping[str, Any]) -> None:
        self.model, self.builder = model, builder
        self.device = batch["input_ids"].device
        self.styles = list(builder.prompt.style_map.tokens)
        asked = [request["style"] for request in batch["asked"].requests]
        image_of = batch["image_index"].tolist()
        pairs = dict.fromkeys((image_of[row], style) for row, style in zip(batch["asked"].prompts, asked, strict=True))
        for image, style in list(pairs):
            pairs |= dict.fromkeys((image, other) for other in self.others(style))
        # Styles that stand in the decoder share the prompt, and with it what is encoded.
        self.texts = {style: builder.prompt.text(style) for _, style in pairs}
        seen = dict.fromkeys((image, self.texts[style]) for image, style in pairs)
        self.rows = {pair: row for row, pair in enumerate(seen)}
        image_index = torch.tensor([image for image, _ in seen], device=self.device)
        prompts = self._prompts([text for _, text in seen])
        self.encoded = model.encoder(prompts, batch["patch_images"], batch["patch_masks"], image_index)
        self.imageless = {text: row for row, text in enumerate(dict.fromkeys(self.texts[style] for style in asked))}
        self.unseen = model.encoder(self._prompts(list(self.imageless)))

    def _prompts(self, texts: Sequence[str]) -> Tensor:
        rows = [self.builder.encode_prompt(text) for text in texts]
        return pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)

    def others(self, style: str) -> list[str]:
        """What a style is contrasted with; of a mixture, styles that are not in it."""
        within = styles_in(style, self.builder.prompt.style_map)
        return other_styles(style, self.styles, MOST_STYLES, within)

    def _of(self, encoded: OFAEncoderOutput, rows: Sequence[int], styles: Sequence[str]) -> OFAEncoderOutput:
        starts = [self.builder.start_token(style) for style in styles]
        return encoded.rows(torch.tensor(rows, device=self.device), torch.tensor(starts, device=self.device))

    def seen(self, pairs: Sequence[tuple[int, str]]) -> OFAEncoderOutput:
        """Images with styles, encoded."""
        rows = [self.rows[image, self.texts[style]] for image, style in pairs]
        return self._of(self.encoded, rows, [style for _, style in pairs])

    def without_image(self, styles: Sequence[str]) -> OFAEncoderOutput:
        """Styles without an image, encoded."""
        return self._of(self.unseen, [self.imageless[self.texts[style]] for style in styles], styles)

    def contrasts(self, asked: Sequence[tuple[int, str]], strengths: Sequence[float], image: float) -> list[Contrast]:
        """What is gone away from: the other styles, where any strength is not 0, and the missing image."""
        found = []
        others = [self.others(style) for _, style in asked]
        # A style that the map does not know has one other style more than those that it knows.
        width = min(map(len, others))
        if any(strengths) and width:
            conditions = [
                self.seen([(image_row, names[k]) for (image_row, _), names in zip(asked, others, strict=True)])
                for k in range(width)
            ]
            found.append(Contrast(conditions, torch.tensor(strengths, device=self.device)))
        if image:
            found.append(Contrast([self.without_image([style for _, style in asked])], image))
        return found


def _put(found: list[list[Hypothesis]], rows: Sequence[int], captions: Sequence[list[Hypothesis]]) -> None:
    for row, best in zip(rows, captions, strict=True):
        found[row] = best
