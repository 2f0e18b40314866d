"""Step 1's auxiliary tasks: extra prompts about a captioned image whose answers teach what a style is.

- mask style: the captioning prompt with `<mask>` for the style, then the caption -> the prompt with its style.
- mask caption: the caption with some of its words masked, and its style -> the caption.
- matching: an image, a caption and a style -> "yes", "no" (the caption is another image's) or "personality" (the style
  is not the caption's).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from preprocessors.prompts import Prompt

MASK = "<mask>"
TASKS = ("caption", "mask_style", "mask_caption", "matching")
"""Names of the tasks; a batch holds their positions, 0 for captioning."""

_MASKED_CAPTION = ' what is the complete text of "{caption}"? write a {style} reply.'
_YES, _NO, _OTHER_STYLE = _ANSWERS = (" yes", " no", " personality")
_MATCHING = ' does the image describe "{caption} " in personality {style}?'


@dataclass(frozen=True)
class StyleTasks:
    """Which tasks are learnt.

    `mask_ratio`: share of a caption's words that are masked, at least one of them. One question of each task is asked
    of an image and its group of captions.
    """

    mask_style: bool = False
    mask_caption: bool = False
    matching: bool = False
    mask_ratio: float = 0.0

    def __bool__(self) -> bool:
        return self.mask_style or self.mask_caption or self.matching

    def questions(
        self,
        captions: Sequence[tuple[str, str]],
        prompt: Prompt,
        generator: torch.Generator | None,
        other_caption: str = "",
    ) -> list[tuple[int, int, str, str]]:
        """Draw the questions about an image.

        Args:
            captions: (style, caption) of the image's group, as the model writes captions: a blank before each word.
            prompt: the captioning prompt.
            generator: of the caption, the words and the answer that are drawn.
            other_caption: of another image, likewise; where there is none, "no" is never the answer.

        Returns:
            (task, position in `captions`, prompt, answer) of each question.
        """
        found = []
        if self.mask_style:
            row = _draw(len(captions), generator)
            style, caption = captions[row]
            found.append((1, row, prompt.fill(MASK) + caption, prompt.text(style)))
        if self.mask_caption:
            row = _draw(len(captions), generator)
            style, caption = captions[row]
            masked = mask_words(caption, self.mask_ratio, generator)
            text = _MASKED_CAPTION.format(caption=masked.strip(), style=prompt.style_text(style))
            found.append((2, row, text, caption))
        if self.matching:
            row = _draw(len(captions), generator)
            found.append((3, row, *self._matching(*captions[row], prompt, generator, other_caption)))
        return found

    @staticmethod
    def _matching(
        style: str, caption: str, prompt: Prompt, generator: torch.Generator | None, other_caption: str
    ) -> tuple[str, str]:
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
        return _MATCHING.format(caption=caption, style=prompt.style_text(style)), answer

    def longest(self, caption: str, prompt: Prompt, count: Callable[[str], int]) -> list[str]:
        """The longest prompt that each task may ask about a caption, by the tokens that `count` counts.

        Of the words that may be masked, those are whose own tokens are fewest: a mask is one token.
        """
        names = [prompt.style_text(style) for style in prompt.style_map.tokens]
        style = max(names, key=count)
        found = [prompt.fill(MASK) + caption] if self.mask_style else []
        if self.mask_caption:
            words = caption.split()
            by_tokens = sorted(range(len(words)), key=lambda place: count(f" {words[place]}"))
            chosen = set(by_tokens[: masked_words(len(words), self.mask_ratio)])
            found.append(_MASKED_CAPTION.format(caption=_masked(words, chosen).strip(), style=style))
        if self.matching:
            found.append(_MATCHING.format(caption=caption, style=style))
        return found

    def texts(self) -> list[str]:
        """What the questions and answers add to the words of captions and captioning prompts."""
        masked = [_MASKED_CAPTION.format(caption="", style="")] if self.mask_caption else []
        return masked + ([_MATCHING.format(caption="", style=""), *_ANSWERS] if self.matching else [])


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
