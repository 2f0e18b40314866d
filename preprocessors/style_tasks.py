"""Step 1's auxiliary tasks: extra prompts about a captioned image whose answers teach what a style is.

- mask style: the captioning prompt with `<mask>` for the style, then the caption -> the prompt with its style.
- mask caption: the caption with some of its words masked, and its style -> the caption.
- matching: an image, a caption and a style -> "yes", "no" (the caption is another image's) or "personality" (the style
  is not the caption's).

Asked in the encoder, a question is a prompt of its own, which the encoder reads with the image once more. Where the
style stands in the decoder, the encoder's prompt is the same whatever is asked, and a question can be read by the
decoder instead, from the pass that the captions have: it reads a start, a text and the end, then writes the answer.

- mask style: `<mask>`, the caption -> the style's token.
- mask caption: the style's token, the caption with masked words -> the caption.
- matching: the style's token, the caption -> the answer.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.ofa.tokenization import PAD
from preprocessors.prompts import Prompt

MASK = "<mask>"
TASKS = ("caption", "mask_style", "mask_caption", "matching")
"""Names of the tasks; a batch holds their positions, 0 for captioning."""

_MASKED_CAPTION = ' what is the complete text of "{caption}"? write a {style} reply.'
_YES, _NO, _OTHER_STYLE = _ANSWERS = (" yes", " no", " personality")
_MATCHING = ' does the image describe "{caption} " in personality {style}?'


@dataclass(frozen=True)
class Question:
    """A question about an image and one of its captions.

    Attributes:
        task: its position in `TASKS`.
        row: of the caption.
        text: what is read: the encoder's prompt, or, with a `start`, what the decoder reads after that token.
        answer: what is written.
        start: the token that the decoder starts to read with; None for a question to the encoder.
        scored: the one token of the answer that is learnt; None for all of them and the end.
    """

    task: int
    row: int
    text: str
    answer: str
    start: str | None = None
    scored: str | None = None


@dataclass(frozen=True)
class StyleTasks:
    """Which tasks are learnt.

    `mask_ratio`: share of a caption's words that are masked, at least one of them. `place`: where questions are read.
    `style_alone`: of the answers that name a style, its token is learnt alone; so it always is in the decoder. One
    question of each task is asked of an image and its group of captions.
    """

    mask_style: bool = False
    mask_caption: bool = False
    matching: bool = False
    mask_ratio: float = 0.0
    place: Literal["encoder", "decoder"] = "encoder"
    style_alone: bool = False

    def __bool__(self) -> bool:
        return self.mask_style or self.mask_caption or self.matching

    def questions(
        self,
        captions: Sequence[tuple[str, str]],
        prompt: Prompt,
        generator: torch.Generator | None,
        other_caption: str = "",
    ) -> list[Question]:
        """Draw the questions about an image.

        Args:
            captions: (style, caption) of the image's group, as the model writes captions: a blank before each word.
            prompt: the captioning prompt.
            generator: of the caption, the words and the answer that are drawn.
            other_caption: of another image, likewise; where there is none, "no" is never the answer.
        """
        inside = self.place == "decoder"
        found = []
        if self.mask_style:
            row = _draw(len(captions), generator)
            style, caption = captions[row]
            token = prompt.style_text(style)
            if inside:
                found.append(Question(1, row, caption, token, MASK, token))
            else:
                scored = token if self.style_alone else None
                found.append(Question(1, row, prompt.fill(MASK) + caption, prompt.fill(token), scored=scored))
        if self.mask_caption:
            row = _draw(len(captions), generator)
            style, caption = captions[row]
            masked, token = mask_words(caption, self.mask_ratio, generator), prompt.style_text(style)
            text = masked if inside else _MASKED_CAPTION.format(caption=masked.strip(), style=token)
            found.append(Question(2, row, text, caption, token if inside else None))
        if self.matching:
            row = _draw(len(captions), generator)
            style, caption, answer = self._matching(*captions[row], prompt, generator, other_caption)
            token = prompt.style_text(style)
            text = caption if inside else _MATCHING.format(caption=caption, style=token)
            found.append(Question(3, row, text, answer, token if inside else None))
        return found

    @staticmethod
    def _matching(
        style: str, caption: str, prompt: Prompt, generator: torch.Generator | None, other_caption: str
    ) -> tuple[str, str, str]:
        """Style and caption of a question, and its answer."""
        answers = [_YES]
        others = [name for name in prompt.style_map.tokens if name != prompt.style_map.find(style)]
        if other_caption:
            answers.append(_NO)
        if others:
            answers.append(_OTHER_STYLE)
        answer = answers[_draw(len(answers), generator)]
        if answer == _NO:
            caption = other_caption
        elif answer == _OTHER_STYLE:
            style = others[_draw(len(others), generator)]
        return style, caption, answer

    def longest(self, caption: str, prompt: Prompt, count: Callable[[str], int]) -> list[str]:
        """The longest prompt that each task may ask about a caption, by the tokens that `count` counts; in the decoder,
        the longest of what is read and written.

        Of the words that may be masked, those are whose own tokens are fewest: a mask is one token.
        """
        names = [prompt.style_text(style) for style in prompt.style_map.tokens]
        style = max(names, key=count)
        if self.place == "decoder" and not self.mask_caption:
            return [caption + _OTHER_STYLE]
        found = [prompt.fill(MASK) + caption] if self.mask_style else []
        if self.mask_caption:
            words = caption.split()
            by_tokens = sorted(range(len(words)), key=lambda place: count(f" {words[place]}"))
            chosen = set(by_tokens[: masked_words(len(words), self.mask_ratio)])
            if self.place == "decoder":
                return [_masked(words, chosen) + caption]
            found.append(_MASKED_CAPTION.format(caption=_masked(words, chosen).strip(), style=style))
        if self.matching:
            found.append(_MATCHING.format(caption=caption, style=style))
        return found

    def texts(self) -> list[str]:
        """What the questions and answers add to the words of captions and captioning prompts."""
        if self.place == "decoder":
            return list(_ANSWERS) if self.matching else []
        masked = [_MASKED_CAPTION.format(caption="", style="")] if self.mask_caption else []
        return masked + ([_MATCHING.format(caption="", style=""), *_ANSWERS] if self.matching else [])


def answer_after(read: Tensor, answer: Tensor, scored: int | None) -> tuple[Tensor, Tensor]:
    """What the decoder reads, and what it is to write after each token of that, both [R + A - 1].

    Where nothing is learnt there is padding to write.

    Args:
        read: long [R], before the answer.
        answer: long [A], with the end.
        scored: the one token of the answer that is learnt; what stands behind it is left out. None: all are.
    """
    if scored is not None:
        answer = answer[: int(answer.eq(scored).nonzero()[0]) + 1]
    target = torch.cat(
        [torch.full((len(read) - 1,), PAD), answer if scored is None else answer.where(answer.eq(scored), PAD)]
    )
    return torch.cat([read, answer[:-1]]), target


def mask_words(caption: str, ratio: float, generator: torch.Generator | None) -> str:
    """Whole words of ` a caption` replaced by `<mask>`: the share `ratio`, rounded, of them, and at least one.

    A masked word takes its blank with it, as the vocabulary's `<mask>` does.
    """
    words = caption.split()
    chosen = set(torch.randperm(len(words), generator=generator)[: masked_words(len(words), ratio)].tolist())
    return _masked(words, chosen)


def masked_words(words: int, ratio: float) -> int:
    """How many of a caption's words are masked."""
    return min(words, max(1, round(ratio * words)))


def _masked(words: Sequence[str], chosen: Collection[int]) -> str:
    return "".join(MASK if place in chosen else f" {word}" for place, word in enumerate(words))


def _draw(count: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(count, (), generator=generator))
