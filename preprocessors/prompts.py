"""The instruction that carries the style to the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models.ofa.styles import StyleMap, style_words

SLOT = "{}"


@dataclass(frozen=True)
class Prompt:
    """A template with one `{}` for the style.

    `tokenize_style`: the style stands there as its token `<code_k>`, otherwise as its words. `unknown_style`: "error"
    refuses a style that is not in the map, "token" writes the map's reserved token. `place`: in "decoder" the prompt
    has nothing in the style's place, and is the same for all styles of an image: a caption starts with the style's
    token instead of bos. `own`: what stands for styles beside those of the map. Raises `ValueError` where the template
    has no or several `{}`, or a setting is another word.
    """

    template: str
    tokenize_style: bool
    style_map: StyleMap
    unknown_style: Literal["error", "token"]
    place: Literal["prompt", "decoder"] = "prompt"
    own: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.template.count(SLOT) != 1:
            raise ValueError(f"style.prompt {self.template!r} must hold exactly one {SLOT}, the place of the style")
        if self.unknown_style not in ("error", "token"):
            raise ValueError(f'style.unknown_style must be "error" or "token", not {self.unknown_style!r}')
        if self.place not in ("prompt", "decoder"):
            raise ValueError(f'style.place must be "prompt" or "decoder", not {self.place!r}')
        if self.place == "decoder" and not self.tokenize_style:
            raise ValueError('style.place = "decoder" needs style.tokenize_style = true: a caption starts with a token')

    def text(self, style: str) -> str:
        """The prompt for a style; raises `ValueError` with the closest names for an unknown one."""
        words = self.style_text(style)
        return self.fill(words if self.place == "prompt" else "")

    def start(self, style: str) -> str | None:
        """The token that a caption of a style starts with; None for bos. Raises `ValueError` as `text` does."""
        return self.style_text(style) if self.place == "decoder" else None

    def style_text(self, style: str) -> str:
        """What stands for a style in a prompt; raises `ValueError` with the closest names for an unknown one."""
        if style in self.own:
            return self.own[style]
        found = self.style_map.find(style) if self.unknown_style == "token" else self.style_map.lookup(style)
        if found is None:
            return self.style_map.unknown
        return self.style_map.tokens[found] if self.tokenize_style else style_words(found)

    def fill(self, words: str) -> str:
        """The template with `words` in the style's place."""
        return self.template.replace(SLOT, words)
