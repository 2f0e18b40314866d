"""A model and its preprocessor as one thing that writes captions: requests in, texts out, in the same order.

The requests of one image are decoded together, so that its pixels go through the ResNet once, whatever the number of
styles; the encoder runs once a prompt.
"""

import contextlib
import copy
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data.loading import ImageCache
from data.samples import Sample
from models.ofa.modeling import OFAModel
from preprocessors.collate import collate
from tasks.captioning.decoding import Guidance, decode_prompts

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor

T = TypeVar("T")
DType = Literal["float32", "bfloat16", "float16"]

# Under this many seconds a progress bar is noise.
_PROGRESS_DELAY_S = 2
# In a log file every update of it is kept.
_LOGGED_PROGRESS_S = 30


@dataclass(frozen=True, slots=True)
class Caption:
    """What the model wrote; `ended`: it wrote the end itself, before the longest caption that was allowed."""

    text: str
    ended: bool


class Captioner:
    """Writes captions with `model`, on the device where it is, with the prompts and image sizes of `preprocessor`.

    `dtype` is the autocast type of the matrix products; the weights are left as they are. The model may be one that is
    being trained: it is used in evaluation mode and left in the mode it was in, and no global generator of random
    numbers is advanced. `features` holds what the model's tower makes of images: where it has all that are asked for,
    none is loaded.
    """

    def __init__(
        self,
        model: OFAModel,
        preprocessor: "OfaStylishImageCaptioningPreprocessor",
        *,
        dtype: DType = "float32",
        features: ImageCache | None = None,
    ) -> None:
        self.model = model
        self.features = features
        # A copy, because the one of a trainer crops at random; the vocabulary and the style map are shared.
        self.preprocessor = copy.copy(preprocessor)
        self.preprocessor.mode = "inference"
        self.dtype = dtype

    @classmethod
    def from_directory(
        cls, directory: str | os.PathLike[str], *, device: str = "auto", dtype: DType = "float32"
    ) -> Self:
        """Model, vocabulary, style map and image sizes of a directory that training wrote.

        `device`: "auto" is the GPU where there is one, or a name of torch's. Raises ValueError, naming the file, for a
        directory that is not whole.
        """
        from models.ofa.checkpoints import load_model
        from preprocessors import OfaStylishImageCaptioningPreprocessor

        preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(Path(directory))
        return cls(place(load_model(Path(directory)), device), preprocessor, dtype=dtype)

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles that the model was trained in, as its style map writes them."""
        return tuple(self.preprocessor.style_map.tokens)

    def canonical(self, style: str) -> str:
        """The style's name as the style map writes it; an unknown one as it is."""
        return self.preprocessor.style_map.find(style) or style

    def caption(self, samples: Sequence[Sample], **settings: Any) -> list[str]:
        """The texts of what `write` writes; its arguments."""
        return [caption.text for caption in self.write(samples, **settings)]

    @torch.no_grad()
    def write(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        beam_size: int,
        max_len_b: int,
        min_len: int,
        no_repeat_ngram_size: int,
        length_penalty: float,
        style_guidance: float | Mapping[str, float] = 0.0,
        image_guidance: float = 0.0,
        num_workers: int = 0,
        blank_images: bool = False,
        progress: bool = True,
    ) -> list[Caption]:
        """The best caption of each sample's image in its style; `caption` and `references` of samples are not read.

        Args:
            batch_size: most captions that are decoded at once. An image that is asked for more than that goes through
                the ResNet once for each such part.
            beam_size, max_len_b, min_len, no_repeat_ngram_size, length_penalty: as in `generation.beam_search`.
            style_guidance, image_guidance: as in `decoding.Guidance`; 0 is plain beam search.
            num_workers: processes that load images; 0 loads them here.
            blank_images: show the model uniform mid-grey (pixels of 0 after normalisation) in place of every image.
            progress: show a bar on stderr when it takes more than a few seconds.

        Raises:
            ValueError: a style that is unknown (with the nearest names), an image that is missing or broken, or a
                setting out of its range.
        """
        if batch_size < 1:
            raise ValueError(f"eval.batch_size is {batch_size}: decode at least 1 caption at a time")
        self._check(samples, blank_images)
        guidance = Guidance(style_guidance, image_guidance)
        guidance.check(self.preprocessor.style_map)
        search: dict[str, Any] = {
            "beam_size": beam_size,
            "max_len_b": max_len_b,
            "min_len": min_len,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "length_penalty": length_penalty,
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
        autocast = torch.autocast(self.model.device.type, getattr(torch, self.dtype), enabled=self.dtype != "float32")
        with bar, evaluating(self.model), autocast:
            for batch in self._batches(samples, batch_size, num_workers, blank_images):
                texts = self._decode(batch, blank_images, guidance, search)
                for row, text in zip(batch["requests"], texts, strict=True):
                    captions[int(row["image_id"])] = text
                bar.update(len(texts))
        return captions

    def _batches(
        self, samples: Sequence[Sample], batch_size: int, num_workers: int, blank_images: bool
    ) -> Iterator[dict[str, Any]]:
        features = None if blank_images or not self._known(samples) else self.features
        loader = DataLoader(
            _Items(samples, self.preprocessor, blank_images, features),
            batch_sampler=plan_batches([sample.image for sample in samples], batch_size),
            collate_fn=_collate,
            num_workers=num_workers,
            pin_memory=self.model.device.type == "cuda",
            generator=torch.Generator(),  # torch's own must not advance: training goes on as if nothing had happened
        )
        for batch in loader:
            if isinstance(batch, ValueError):
                raise batch
            yield batch

    def _decode(
        self, batch: Mapping[str, Any], blank_images: bool, guidance: Guidance, search: Mapping[str, Any]
    ) -> list[Caption]:
        """The captions of a batch, one a row of its `encoder_index`."""
        device = self.model.device
        on_device = {name: batch[name].to(device, non_blocking=True) for name in ("input_ids", "image_index")}
        on_device["patch_images"] = batch["patch_images"].to(
            device, non_blocking=True, memory_format=torch.channels_last
        )
        on_device["patch_masks"] = batch["patch_masks"].to(device, non_blocking=True) | blank_images
        found = decode_prompts(self.model, self.preprocessor.builder, {**batch, **on_device}, guidance, search)
        # A model whose numbers have run away finishes nothing: its caption is empty, and the scores will tell.
        longest = search["max_len_b"]
        best = [hypotheses[0].tokens if hypotheses else None for hypotheses in found]
        captions = [Caption("", False) if tokens is None else self._caption(tokens, longest) for tokens in best]
        return [captions[prompt] for prompt in batch["encoder_index"].tolist()]

    def _caption(self, tokens: torch.Tensor, longest: int) -> Caption:
        text = self.preprocessor.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        assert isinstance(text, str)
        return Caption(" ".join(text.split()), ended=len(tokens) <= longest)

    def _known(self, samples: Sequence[Sample]) -> bool:
        """Whether the features of all images are there: those of pixels and kept ones do not go into one batch."""
        return self.features is not None and all(image in self.features for image in unique_images(samples))

    def _check(self, samples: Sequence[Sample], blank_images: bool) -> None:
        """Find what is wrong before the first image is decoded, not an hour later."""
        for style in dict.fromkeys(sample.style for sample in samples):
            self.preprocessor.builder.prompt.text(style)
        missing = [] if blank_images else [image for image in unique_images(samples) if not os.path.isfile(image)]
        if missing:
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


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards every module is in the mode it was in, frozen parts among them."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def unique_images(samples: Sequence[Sample]) -> list[str]:
    """The image paths of samples, each once, in order of first appearance."""
    return list(dict.fromkeys(sample.image for sample in samples))


def plan_batches(images: Sequence[str], batch_size: int) -> list[list[tuple[int, ...]]]:
    """Which rows of `images` are decoded together: batches of groups of rows, one group an image.

    A batch has at most `batch_size` rows. Images are in order of first appearance; an image with more rows is divided.
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image, []).append(row)
    batches: list[list[tuple[int, ...]]] = []
    room = 0
    for group in rows.values():
        for start in range(0, len(group), batch_size):
            part = tuple(group[start : start + batch_size])
            if len(part) > room:
                batches.append([])
                room = batch_size
            batches[-1].append(part)
            room -= len(part)
    return batches


def shard(items: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The part of `items` that process `rank` of `world` captions: contiguous, so that an image mostly stays whole.

    The parts' sizes differ by at most one; `merge` puts results of all ranks in order again.
    """
    return items[rank * len(items) // world : (rank + 1) * len(items) // world]


def merge(parts: Sequence[Sequence[T]]) -> list[T]:
    """The results of all ranks, given in the order of ranks, as one list in the order of the items."""
    return list(chain.from_iterable(parts))


class _Items(Dataset[Any]):
    """Item `rows` of a batch plan: the image of these samples with a prompt each; a ValueError where it is broken.

    The error is returned, not raised: a loader would bury it in a worker's traceback.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessor: "OfaStylishImageCaptioningPreprocessor",
        blank_images: bool,
        features: ImageCache | None,
    ) -> None:
        self.samples = samples
        self.preprocessor = preprocessor
        self.blank_images = blank_images
        self.features = features

    def __getitem__(self, rows: tuple[int, ...]) -> Mapping[str, Any] | ValueError:
        # The row takes the place of the image's id: it tells where the caption belongs, whatever the batch does to it.
        asked = [replace(self.samples[row], image_id=str(row), caption="", references=()) for row in rows]
        image = asked[0].image
        shown = None if self.blank_images else image if self.features is None else self.features[image]
        try:
            return self.preprocessor({"image": shown, "samples": asked})
        except ValueError as error:
            return error


def _collate(items: list[Mapping[str, Any] | ValueError]) -> dict[str, Any] | ValueError:
    whole = [item for item in items if not isinstance(item, ValueError)]
    broken = [item for item in items if isinstance(item, ValueError)]
    return broken[0] if broken else collate(whole)
