"""The preprocessor that ModelScope finds by name: an adapter over `ItemBuilder`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from modelscope.preprocessors.base import Preprocessor
from modelscope.preprocessors.builder import PREPROCESSORS
from modelscope.utils.constant import Fields, ModeKeys, ModelFile

from data.reading import load_json
from models.ofa.styles import STYLE_MAP_FILE, StyleMap
from models.ofa.tokenization import OFATokenizer
from preprocessors.images import ImageTransform
from preprocessors.items import ItemBuilder
from preprocessors.prompts import Prompt
from preprocessors.style_tasks import StyleTasks

MODULE_NAME = "ofa-stylish-image-captioning"
_SETTINGS = (
    "prompt",
    "tokenize_style",
    "unknown_style",
    "place",
    "patch_image_size",
    "max_image_size",
    "max_tgt_length",
    "lowercase",
    "flip",
)


@dataclass(frozen=True)
class _Ask:
    """A request without a known caption."""

    image_id: str
    style: str
    caption: str = ""
    references: tuple[str, ...] = ()


@PREPROCESSORS.register_module(Fields.multi_modal, module_name=MODULE_NAME)
class OfaStylishImageCaptioningPreprocessor(Preprocessor):
    """Pictures and styles to items for `preprocessors.collate.collate`.

    Vocabulary and style map are given, or read from `model_dir`. The keywords are the settings of the sections `style`
    and `data` of a configuration. In mode "train" pictures are cropped at random and may be flipped, and the questions
    of `tasks` are asked beside captions; they are no part of what is saved. Raises `ValueError` for a file, a size, a
    prompt or a style that cannot be.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        mode: str = ModeKeys.INFERENCE,
        *,
        tokenizer: OFATokenizer | None = None,
        style_map: StyleMap | None = None,
        prompt: str,
        tokenize_style: bool,
        unknown_style: Literal["error", "token"],
        place: Literal["prompt", "decoder"] = "prompt",
        patch_image_size: int,
        max_image_size: int,
        max_tgt_length: int,
        lowercase: bool,
        flip: bool,
        tasks: StyleTasks | None = None,
    ) -> None:
        super().__init__(mode)
        self.tasks = tasks
        if model_dir is None and (tokenizer is None or style_map is None):
            raise ValueError("a preprocessor needs a model_dir, or both a tokenizer and a style_map")
        self.tokenizer = tokenizer or OFATokenizer.from_pretrained(str(model_dir))
        self.style_map = style_map or StyleMap.from_json(Path(str(model_dir)) / STYLE_MAP_FILE)
        self.settings: dict[str, Any] = {
            "prompt": prompt,
            "tokenize_style": tokenize_style,
            "unknown_style": unknown_style,
            "place": place,
            "patch_image_size": patch_image_size,
            "max_image_size": max_image_size,
            "max_tgt_length": max_tgt_length,
            "lowercase": lowercase,
            "flip": flip,
        }
        self.builder = ItemBuilder(
            tokenizer=self.tokenizer,
            prompt=Prompt(prompt, tokenize_style, self.style_map, unknown_style, place),
            transform=self._transform(),
            max_tgt_length=max_tgt_length,
            lowercase=lowercase,
        )

    @classmethod
    def from_model_dir(cls, model_dir: str | Path, mode: str = ModeKeys.INFERENCE) -> Self:
        """Read vocabulary, style map and the `preprocessor` section of `configuration.json`; all files are local.

        Raises `ValueError` naming the file that is missing or lacks something.
        """
        path = Path(model_dir) / ModelFile.CONFIGURATION
        try:
            content = load_json(path)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}; name a directory written by training") from error
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error
        section: dict[str, Any] = {"place": "prompt"}  # the only one that earlier programs knew
        section |= content.get("preprocessor", {}) if isinstance(content, dict) else {}
        missing = [key for key in _SETTINGS if key not in section]
        if missing:
            raise ValueError(f"{path}: preprocessor lacks {', '.join(missing)}; name a directory written by training")
        return cls(str(model_dir), mode, **{key: section[key] for key in _SETTINGS})

    def section(self) -> dict[str, Any]:
        """The `preprocessor` section of `configuration.json`, from which ModelScope builds this object again."""
        return {"type": MODULE_NAME, **self.settings}

    def save_files(self, directory: str | Path) -> None:
        """Write vocabulary and style map, which stand beside the weights."""
        self.tokenizer.save_pretrained(directory)
        self.style_map.to_json(Path(directory) / STYLE_MAP_FILE)

    @property
    def mode(self) -> str:
        """ "train", "eval" or "inference"; ModelScope sets it after building."""
        return self._mode

    @mode.setter
    def mode(self, value: str) -> None:
        self._mode = value
        self.builder = self.builder.with_transform(self._transform())

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """An item of one picture.

        `data` holds `image` (path, PIL picture, uint8 RGB array, or None for no picture) and either `style`, a name, or
        `samples`, what is asked of this picture (`data.Sample`). `image_id` names it in the results; `generator`
        draws crop, flip and questions, for which `other_caption` is another picture's.
        """
        if "image" not in data:
            raise ValueError(
                f"the preprocessor needs the key image; it was given {', '.join(map(str, data)) or 'none'}"
            )
        if "samples" in data:
            samples = data["samples"]
        elif "style" in data:
            samples = [_Ask(str(data.get("image_id", "")), data["style"])]
        else:
            raise ValueError("the preprocessor needs the key style, the name of a style, or samples")
        if self.tasks and self._mode == ModeKeys.TRAIN:
            other = data.get("other_caption", "")
            return self.builder.item(data["image"], samples, data.get("generator"), self.tasks, other)
        return self.builder.item(data["image"], samples, data.get("generator"))

    def _transform(self) -> ImageTransform:
        sizes = self.settings["patch_image_size"], self.settings["max_image_size"]
        return ImageTransform(*sizes, train=self._mode == ModeKeys.TRAIN, flip=self.settings["flip"])
