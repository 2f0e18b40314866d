"""From a picture and what is asked of it to an item that `collate` joins into a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from models.ofa.tokenization import BOS, EOS, OFATokenizer
from preprocessors.images import ImageSource, ImageTransform, load_image
from preprocessors.prompts import Prompt
from preprocessors.style_tasks import Question, StyleTasks, answer_after
from preprocessors.targets import mentions_side, target_text

MAX_TARGET_TOKENS = 256  # ModelScope's bound: a "word" of a hundred characters must not outgrow the position table


class Request(Protocol):
    """A caption that is asked for; `caption` is the one to learn, empty where there is none. `data.Sample` is one."""

    @property
    def image_id(self) -> str: ...

    @property
    def style(self) -> str: ...

    @property
    def caption(self) -> str: ...

    @property
    def references(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class ItemBuilder:
    """Builds items; holds nothing but settings and the prompts it has already encoded.

    Raises `ValueError` where the vocabulary has no token for one of the styles.
    """

    tokenizer: OFATokenizer
    prompt: Prompt
    transform: ImageTransform
    max_tgt_length: int  # words
    lowercase: bool
    max_target_tokens: int = MAX_TARGET_TOKENS
    own: Mapping[str, int] = field(default_factory=dict)  # ids beyond the vocabulary of styles beside those of the map
    _encoded: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.prompt.style_map.token_ids(self.tokenizer)

    def with_transform(self, transform: ImageTransform) -> Self:
        """The same builder with other image settings."""
        return replace(self, transform=transform)

    def within(self, positions: int) -> Self:
        """The same builder for a model that has so many positions: longer captions are cut, the end included."""
        return replace(self, max_target_tokens=min(MAX_TARGET_TOKENS, positions - 1))

    def item(
        self,
        image: ImageSource | None,
        requests: Sequence[Request],
        generator: torch.Generator | None = None,
        tasks: StyleTasks | None = None,
        other_caption: str = "",
    ) -> dict[str, Any]:
        """One picture and all captions asked of it; requests of the same prompt share one row of `prompts`.

        `image` None is an absent picture: zeros, with a false mask. An array of float16 [V, C, h, w] is what a frozen
        tower makes of it, in as many views (`data.feature_cache`). `generator` draws crop and flip in training, and
        then the questions of `tasks`, for which `other_caption` is another picture's caption.
        Returns the mapping that `preprocessors.collate` describes.
        """
        rows: dict[str, int] = {}
        captions = []
        for request in requests:
            row = rows.setdefault(self.prompt.text(request.style), len(rows))
            captions.append((row, self.encode_target(request.caption)))
        may_flip = not any(mentions_side(request.caption) for request in requests)
        item = {
            "patch_image": self._pixels(image, generator, may_flip),
            "patch_mask": image is not None,
            "prompts": [self.encode_prompt(text) for text in rows],
            "captions": captions,
            "starts": [self.start_token(request.style) for request in requests],
            "requests": [self._plain(request) for request in requests],
        }
        if tasks:
            self._ask(item, tasks, requests, generator, other_caption)
        return item

    def _ask(
        self,
        item: dict[str, Any],
        tasks: StyleTasks,
        requests: Sequence[Request],
        generator: torch.Generator | None,
        other_caption: str,
    ) -> None:
        """Add the questions of `tasks` to an item: a caption each, and a prompt where the encoder reads it."""
        captions = [(request.style, self.target_text(request.caption)) for request in requests]
        other = self.target_text(other_caption)
        item["tasks"] = [0] * len(requests)
        item["decoder_inputs"] = [None] * len(requests)
        for question in tasks.questions(captions, self.prompt, generator, other):
            if question.start is None:
                row, start = len(item["prompts"]), [BOS]
                # Not kept: hardly any of these prompts occurs twice.
                item["prompts"].append(self._bracketed(question.text))
            else:
                row = item["captions"][question.row][0]
                start = [*self.tokenizer.encode_text(question.start + question.text), EOS]
            answer = self._encode_answer(question.answer)
            read, target = answer_after(torch.tensor(start), answer, self._scored(question))
            item["captions"].append((row, target))
            item["decoder_inputs"].append(read)
            item["starts"].append(start[0])
            item["requests"].append(item["requests"][question.row])
            item["tasks"].append(question.task)

    def _scored(self, question: Question) -> int | None:
        return None if question.scored is None else self.tokenizer.encode_text(question.scored)[0]

    def encode_prompt(self, text: str) -> Tensor:
        """long [L]: bos, the text, eos. Few different prompts exist, so each is encoded once."""
        if text not in self._encoded:
            self._encoded[text] = self._bracketed(text)
        return self._encoded[text]

    def remember_prompt(self, text: str, ids: Tensor) -> None:
        """What `encode_prompt` gives for a text, in place of what the tokenizer makes of it."""
        self._encoded[text] = ids

    def start_token(self, style: str) -> int:
        """The token that a caption of a style starts with."""
        if style in self.own and self.prompt.place == "decoder":
            return self.own[style]
        start = self.prompt.start(style)
        return BOS if start is None else self.tokenizer.encode_text(start)[0]

    def _bracketed(self, text: str) -> Tensor:
        return torch.tensor([BOS, *self.tokenizer.encode_text(text), EOS])

    def encode_target(self, caption: str) -> Tensor:
        """long [T]: the caption as OFA writes it, eos."""
        return self._encode_answer(self.target_text(caption))

    def target_text(self, caption: str) -> str:
        """The caption as OFA writes it."""
        return target_text(caption, self.max_tgt_length, lowercase=self.lowercase)

    def _encode_answer(self, text: str) -> Tensor:
        return torch.tensor([*self.tokenizer.encode_text(text, max_length=self.max_target_tokens), EOS])

    def _pixels(self, image: ImageSource | None, generator: torch.Generator | None, may_flip: bool) -> Tensor:
        if image is None:
            return torch.zeros(3, self.transform.patch_image_size, self.transform.patch_image_size)
        if isinstance(image, np.ndarray) and image.dtype == np.float16:
            return self._features(image, generator, may_flip)
        picture = load_image(image, draft_size=self.transform.max_image_size)
        return self.transform(picture, generator, may_flip=may_flip)

    def _features(self, views: np.ndarray, generator: torch.Generator | None, may_flip: bool) -> Tensor:
        """One of an image's views [V, C, h, w] float16 (as it is, mirrored), drawn as `ImageTransform` draws its flip,
        as float [C, h, w]."""
        mirrored = len(views) > 1 and self.transform.flips(generator)
        return torch.from_numpy(views[int(mirrored and may_flip)].astype(np.float32))

    def _plain(self, request: Request) -> dict[str, Any]:
        style = self.prompt.style_map.find(request.style) or request.style
        return {"image_id": request.image_id, "style": style, "references": list(request.references)}
