"""A model and its preprocessor as one thing that writes captions: requests in, texts out, in the same order.

The requests of one image are decoded together, so that its pixels go through the ResNet once, whatever the number of
styles; the encoder runs once a prompt.
"""

import copy
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.loading import ImageCache
from data.samples import Sample
from models.ofa.beams import Hypothesis
from models.ofa.mixtures import with_intensity
from models.ofa.modeling import OFAModel
from models.ofa.saving import ENDINGS, GENERATION, GUIDANCE, read_configuration
from preprocessors.images import ImageSource, ImageTransform
from tasks.captioning.asked_images import Loaded, RequestedImages, collate_whole, plan_batches
from tasks.captioning.decoding import Guidance, decode_prompts
from tasks.captioning.looking import Looked, looked_at
from tasks.captioning.mixing import own_styles
from tasks.captioning.pictures import Asked, Written, caption_pictures
from tasks.predicting import evaluating

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor

LOGGER = logging.getLogger("stylecap")
T = TypeVar("T")
DType = Literal["float32", "bfloat16", "float16"]

# Under this many seconds a progress bar is noise.
_PROGRESS_DELAY_S = 2
# In a log file every update of it is kept.
_LOGGED_PROGRESS_S = 30
_FAULTS_TOLD = 5
# Captions decoded at once where nobody says how many.
_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Caption:
    """What the model wrote; `ended`: it wrote the end itself, at the longest caption that is allowed at the latest;
    `fault`: why it wrote nothing, where its image cannot be read."""

    text: str
    ended: bool
    fault: str | None = None


class Captioner:
    """Writes captions with `model`, on the device where it is, with the prompts and image sizes of `preprocessor`.

    `dtype` is the autocast type of the matrix products; the weights are left as they are. The model may be one that is
    being trained: it is used in evaluation mode and left in the mode it was in, and no global generator of random
    numbers is advanced. `features` holds what the model's tower makes of images: where it has all that are asked for,
    none is loaded. `defaults` are settings of `write` for `caption`, where a call gives no others.
    """

    def __init__(
        self,
        model: OFAModel,
        preprocessor: "OfaStylishImageCaptioningPreprocessor",
        *,
        dtype: DType = "float32",
        features: ImageCache | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.features = features
        self.defaults = dict(defaults or {})
        # A copy, because the one of a trainer crops at random; the vocabulary and the style map are shared.
        self.preprocessor = copy.copy(preprocessor)
        self.preprocessor.mode = "inference"
        self.dtype = dtype

    @classmethod
    def from_directory(
        cls, directory: str | os.PathLike[str], *, device: str = "auto", dtype: DType = "float32"
    ) -> Self:
        """Model, vocabulary, style map, image sizes and settings of search of a directory that training wrote.

        `device`: "auto" is the GPU where there is one, or a name of torch's. Raises ValueError, naming the file, for a
        directory that is not whole.
        """
        from models.ofa.checkpoints import load_model
        from preprocessors import OfaStylishImageCaptioningPreprocessor

        preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(Path(directory))
        defaults = {"batch_size": _BATCH_SIZE, **read_configuration(Path(directory))["pipeline"].get("generation", {})}
        return cls(place(load_model(Path(directory)), device), preprocessor, dtype=dtype, defaults=defaults)

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles that the model was trained in, as its style map writes them."""
        return tuple(self.preprocessor.style_map.tokens)

    @property
    def transform(self) -> ImageTransform:
        """How pictures are prepared."""
        return self.preprocessor.builder.transform

    def check(self, style: str) -> None:
        """ValueError, with the nearest names, for a style that is not known."""
        self.preprocessor.builder.prompt.text(style)

    def canonical(self, style: str) -> str:
        """The style's name as the style map writes it; an unknown one as it is."""
        return self.preprocessor.style_map.find(style) or style

    @overload
    def caption(self, images: Sequence[Sample], **settings: Any) -> list[str]: ...
    @overload
    def caption(
        self, images: Sequence[str | os.PathLike[str]], styles: Sequence[str] | None = None, **settings: Any
    ) -> list[dict[str, str]]: ...
    def caption(self, images: Sequence[Any], styles: Sequence[str] | None = None, **settings: Any) -> Any:
        """Captions of image files in each of `styles` (None: all that the model knows), `{style: caption}` for each.

        `settings` are those of `write`; others are the directory's that the model was loaded from. Of samples, which
        name their styles, the texts. Raises ValueError as `write`, and for a text in place of a list.
        """
        for name, value in (("images", images), ("styles", styles)):
            if isinstance(value, (str, os.PathLike)):
                raise ValueError(f"{name} is one text ({os.fspath(value)}): give a list, [{os.fspath(value)!r}]")
        settings = self.defaults | settings
        if styles is None and all(isinstance(image, Sample) for image in images):
            return [caption.text for caption in self.write(images, **settings)]
        names = [self.canonical(style) for style in (self.styles if styles is None else styles)]
        samples = [Sample(os.fspath(image), Path(image).stem, name, "", ()) for image in images for name in names]
        texts = iter(self.write(samples, **settings))
        return [{name: next(texts).text for name in names} for _ in images]

    def caption_pictures(
        self, asked: Sequence[Asked], search: Mapping[str, Any] | None = None, guidance: Guidance | None = None
    ) -> list[list[list[Written]]]:
        """As `pictures.caption_pictures`: pictures in memory, each in its styles, with all beams and scores.

        Styles may be mixtures and descriptions (`models.ofa.mixtures`), those of one picture others than of the next.
        `search` wins over the directory's settings; without `guidance` it is the directory's.
        """
        kept = (name for name in (*GENERATION, ENDINGS) if name in self.defaults)
        settings = {name: self.defaults[name] for name in kept} | dict(search or {})
        if guidance is None:
            guidance = Guidance(*(self.defaults.get(name, 0.0) for name in GUIDANCE))
        styles = [style for _, names in asked for style in names]
        with (
            evaluating(self.model),
            self._autocast(),
            own_styles(self.model, self.preprocessor, styles) as preprocessor,
        ):
            return caption_pictures(self.model, preprocessor, asked, settings, guidance)

    def looked_at(self, image: ImageSource, style: str, caption: str) -> list[Looked]:
        """As `looking.looked_at`: where the model looks in a picture for each word of a caption in a style."""
        with (
            evaluating(self.model),
            self._autocast(),
            own_styles(self.model, self.preprocessor, [style]) as preprocessor,
        ):
            return looked_at(self.model, preprocessor, image, style, caption)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, getattr(torch, self.dtype), enabled=self.dtype != "float32")

    def write(self, samples: Sequence[Sample], *, style_intensity: float = 1.0, **settings: Any) -> list[Caption]:
        """As `_write`, whose arguments it has; styles may be mixtures and descriptions (`models.ofa.mixtures`).

        `style_intensity`: of all styles; 1 leaves them as they are, 0 is no style in particular.
        """
        known = self.preprocessor.style_map
        asked = [replace(one, style=with_intensity(one.style, style_intensity, known)) for one in samples]
        plain = self.preprocessor
        with own_styles(self.model, plain, [one.style for one in asked]) as self.preprocessor:
            try:
                return self._write(asked, **settings)
            finally:
                self.preprocessor = plain

    @torch.no_grad()
    def _write(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        beam_size: int,
        max_len_b: int,
        min_len: int,
        no_repeat_ngram_size: int,
        length_penalty: float,
        no_end_after: Sequence[str] = (),
        style_guidance: float | Mapping[str, float] = 0.0,
        image_guidance: float = 0.0,
        num_workers: int = 0,
        blank_images: bool = False,
        progress: bool = True,
        strict: bool = True,
    ) -> list[Caption]:
        """The best caption of each sample's image in its style; `caption` and `references` of samples are not read.

        Args:
            batch_size: most captions that are decoded at once. An image that is asked for more than that goes through
                the ResNet once for each such part.
            beam_size, max_len_b, min_len, no_repeat_ngram_size, length_penalty: as in `generation.beam_search`.
            style_guidance, image_guidance: as in `decoding.Guidance`; 0 is plain beam search.
            no_end_after: words that no caption ends with, unless it is cut at `max_len_b`.
            num_workers: processes that load images; 0 loads them here.
            blank_images: show the model uniform mid-grey (pixels of 0 after normalisation) in place of every image.
            progress: show a bar on stderr when it takes more than a few seconds.
            strict: an image that is missing or broken is an error; otherwise its captions are empty and say why.

        Raises:
            ValueError: a style that is unknown (with the nearest names), an image that is missing or broken (without
                `strict`, if all are), or a setting out of its range.
        """
        if batch_size < 1:
            raise ValueError(f"eval.batch_size is {batch_size}: decode at least 1 caption at a time")
        self._check(samples, blank_images, strict)
        guidance = Guidance(style_guidance, image_guidance)
        guidance.check(self.preprocessor.style_map)
        search: dict[str, Any] = {
            "beam_size": beam_size,
            "max_len_b": max_len_b,
            "min_len": min_len,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "length_penalty": length_penalty,
            "no_end_after": no_end_after,
        }
        captions = [Caption("", False)] * len(samples)
        bar = tqdm(
            desc="captions",
            total=len(samples),
            delay=_PROGRESS_DELAY_S,
            disable=not progress,
            file=sys.stderr,
            mininterval=0.1 if sys.stderr.isatty() else _LOGGED_PROGRESS_S,
            leave=False,
        )
        with bar, evaluating(self.model), self._autocast():
            for batch, broken in self._batches(samples, batch_size, num_workers, blank_images):
                for rows, error in broken:
                    if strict:
                        raise error
                    for row in rows:
                        captions[row] = Caption("", False, str(error))
                bar.update(sum(len(rows) for rows, _ in broken))
                if batch is not None:
                    self._fill(captions, batch, self._decode(batch, blank_images, guidance, search), bar)
        tell_faults(samples, captions)
        return captions

    @staticmethod
    def _fill(captions: list[Caption], batch: Mapping[str, Any], written: Sequence[Caption], bar: Any) -> None:
        for request, caption in zip(batch["requests"], written, strict=True):
            captions[int(request["image_id"])] = caption
        bar.update(len(written))

    def _batches(
        self, samples: Sequence[Sample], batch_size: int, num_workers: int, blank_images: bool
    ) -> Iterator[Loaded]:
        features = None if blank_images or not self._known(samples) else self.features
        loader = DataLoader(
            RequestedImages(samples, self.preprocessor, blank_images, features),
            batch_sampler=plan_batches([sample.image for sample in samples], batch_size),
            collate_fn=collate_whole,
            num_workers=num_workers,
            pin_memory=self.model.device.type == "cuda",
            generator=torch.Generator(),  # torch's own must not advance: training goes on as if nothing had happened
        )
        yield from loader

    def _decode(
        self, batch: Mapping[str, Any], blank_images: bool, guidance: Guidance, search: Mapping[str, Any]
    ) -> list[Caption]:
        """The captions of a batch, in the order of its requests."""
        device = self.model.device
        on_device = {name: batch[name].to(device, non_blocking=True) for name in ("input_ids", "image_index")}
        on_device["patch_images"] = batch["patch_images"].to(
            device, non_blocking=True, memory_format=torch.channels_last
        )
        on_device["patch_masks"] = batch["patch_masks"].to(device, non_blocking=True) | blank_images
        found = decode_prompts(self.model, self.preprocessor.builder, {**batch, **on_device}, guidance, search)
        # A model whose numbers have run away finishes nothing: its caption is empty, and the scores will tell.
        captions = [self._caption(hypotheses[0]) if hypotheses else Caption("", False) for hypotheses in found]
        return [captions[number] for number in batch["asked"].index]

    def _caption(self, best: Hypothesis) -> Caption:
        text = self.preprocessor.tokenizer.decode(best.tokens.tolist(), skip_special_tokens=True)
        assert isinstance(text, str)
        return Caption(" ".join(text.split()), best.ended)

    def _known(self, samples: Sequence[Sample]) -> bool:
        """Whether the features of all images are there: those of pixels and kept ones do not go into one batch."""
        return self.features is not None and all(image in self.features for image in unique_images(samples))

    def _check(self, samples: Sequence[Sample], blank_images: bool, strict: bool) -> None:
        """Find what is wrong before the first image is decoded, not an hour later."""
        for style in dict.fromkeys(sample.style for sample in samples):
            self.preprocessor.builder.prompt.text(style)
        images = [] if blank_images else unique_images(samples)
        missing = [image for image in images if not os.path.isfile(image)]
        if missing and (strict or len(missing) == len(images)):
            more = f" ({len(missing)} images are missing)" if len(missing) > 1 else ""
            raise ValueError(
                f"image {missing[0]} does not exist{more}: correct its path (data.skip_bad leaves it out of a split)"
            )


def place(model: OFAModel, device: str) -> OFAModel:
    """The model on its device ("auto": the GPU where there is one), its image tower in the layout convolutions like."""
    chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    nn.Module.to(model, chosen)
    model.encoder.embed_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def unique_images(samples: Sequence[Sample]) -> list[str]:
    """The image paths of samples, each once, in order of first appearance."""
    return list(dict.fromkeys(sample.image for sample in samples))


def tell_faults(samples: Sequence[Sample], captions: Sequence[Caption]) -> None:
    """Log the images that could not be read. ValueError where that are all of them."""
    faults = {sample.image: one.fault for sample, one in zip(samples, captions, strict=True) if one.fault is not None}
    if faults and len(faults) == len(unique_images(samples)):
        raise ValueError(f"none of {len(faults)} images can be read: {next(iter(faults.values()))}")
    for fault in list(faults.values())[:_FAULTS_TOLD]:
        LOGGER.warning("no caption: %s", fault)
    if len(faults) > _FAULTS_TOLD:
        LOGGER.warning("and %d more images cannot be read", len(faults) - _FAULTS_TOLD)
