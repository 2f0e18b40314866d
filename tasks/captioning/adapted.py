"""Several adapters (`train.lora`) over one model: requests of one batch, each answered by the adapter that it names."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from data.files import digest_of
from data.samples import Sample
from models.ofa.adapters import base_of, is_adapter, peft_library
from models.ofa.beams import Hypothesis
from models.ofa.checkpoints import load_model
from models.ofa.mixed_adapters import PLAIN, open_adapters
from models.ofa.modeling import OFAModel
from models.ofa.saving import ENDINGS, GENERATION, SAFETENSORS_FILE, read_configuration
from models.ofa.styles import STYLE_MAP_FILE
from preprocessors.collate import collate
from preprocessors.images import ImageSource, ImageTransform
from tasks.captioning.asked_images import plan_batches
from tasks.captioning.captioner import Caption, place, tell_faults
from tasks.captioning.decoding import Guidance, decode_prompts
from tasks.captioning.pictures import Asked, Written, written_of

if TYPE_CHECKING:
    from preprocessors import OfaStylishImageCaptioningPreprocessor


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    """An image file, the style to caption it in, and the adapter that does it."""

    image: str | os.PathLike[str]
    style: str
    adapter: str


class AdapterCaptioner:
    """Writes captions with one model and several adapters, each with its styles, prompts and image sizes.

    A batch goes through the model once, whatever adapters it has requests for. Styles are those of the adapter's style
    map: neither mixtures nor guidance. An image that several adapters are asked about is read once for each.

    A style is also named as one text, `ADAPTER/STYLE`; without an adapter it is the model's own.

    Args:
        model: with the adapters in it (`models.ofa.mixed_adapters.open_adapters`).
        preprocessors: of each adapter, and under `PLAIN` of the model alone, where it has styles of its own.
        search: settings of beam search, where a call gives no others.
    """

    def __init__(
        self,
        model: OFAModel,
        preprocessors: Mapping[str, "OfaStylishImageCaptioningPreprocessor"],
        search: Mapping[str, Any],
    ) -> None:
        self.model = model.eval()
        self.preprocessors = dict(preprocessors)
        self.search = dict(search)

    @classmethod
    def from_directories(
        cls,
        adapters: Mapping[str, str | os.PathLike[str]],
        *,
        base: str | os.PathLike[str] | None = None,
        device: str = "auto",
        plain: bool = False,
    ) -> Self:
        """Adapters by name, each a checkpoint of `train.lora` or what `export --adapter` wrote.

        `base`: the model that they belong to; None is what they name, which must be the same for all. `plain`: it is
        asked without an adapter as well. The settings of search are the first adapter's. Raises ValueError for a folder
        that is no adapter, a base that is one, and for adapters of different models.
        """
        from preprocessors import OfaStylishImageCaptioningPreprocessor

        peft_library()
        folders = {name: Path(folder) for name, folder in adapters.items()}
        if not folders:
            raise ValueError("no adapter is named: give {name: folder}")
        for name, folder in folders.items():
            if not is_adapter(folder):
                raise ValueError(f"adapter {name}: {folder} holds none: name a checkpoint of a run with train.lora")
            if "/" in name or name == PLAIN:
                raise ValueError(f"adapter {name!r}: its name stands before a slash: use one without")
        if base is not None and is_adapter(Path(base)):
            raise ValueError(f"{base} is an adapter itself: name the model that it is of, such as RUN/checkpoints/base")
        model = place(load_model(Path(base) if base is not None else _common_base(folders)), device)
        open_adapters(model, folders)
        if plain and base is not None and (Path(base) / STYLE_MAP_FILE).is_file():
            folders = {**folders, PLAIN: Path(base)}
        read = {name: OfaStylishImageCaptioningPreprocessor.from_model_dir(one) for name, one in folders.items()}
        generation = read_configuration(next(iter(folders.values())))["pipeline"]["generation"]
        return cls(model, read, {name: generation[name] for name in (*GENERATION, ENDINGS) if name in generation})

    @property
    def styles(self) -> tuple[str, ...]:
        """All styles: the model's own, and those of each adapter as `ADAPTER/STYLE`."""
        names = sorted(self.preprocessors, key=lambda name: name != PLAIN)
        return tuple(_joined(name, style) for name in names for style in self.preprocessors[name].style_map.tokens)

    def named(self, style: str) -> tuple[str, str]:
        """The adapter (`PLAIN` for none) and the style, as its map writes it, of a text.

        Raises ValueError, with the names that there are, for an unknown style or adapter.
        """
        adapter, slash, rest = style.partition("/")
        if not slash or adapter not in self.preprocessors:
            adapter, rest = PLAIN, style
        if adapter not in self.preprocessors:
            raise ValueError(f"style {style!r} names no adapter: write ADAPTER/STYLE; there are {self._adapters()}")
        prompt = self.preprocessors[adapter].builder.prompt
        prompt.text(rest)
        return adapter, prompt.style_map.find(rest) or rest

    def of_adapter(self, adapter: str, styles: Sequence[str]) -> list[str]:
        """Styles of one adapter, all where none is named, as `ADAPTER/STYLE`. ValueError for an unknown adapter."""
        if adapter == PLAIN or adapter not in self.preprocessors:
            raise ValueError(f"unknown adapter {adapter!r}: there are {self._adapters()}")
        return [_joined(adapter, style) for style in styles or self.preprocessors[adapter].style_map.tokens]

    def check(self, style: str) -> None:
        """ValueError as `named`."""
        self.named(style)

    def canonical(self, style: str) -> str:
        """A style as `styles` has it. ValueError as `named`."""
        return _joined(*self.named(style))

    @property
    def transform(self) -> ImageTransform:
        """How pictures are prepared, where it is the same for all. ValueError where it is not."""
        read = self.preprocessors
        sizes = {name: (one.settings["patch_image_size"], one.settings["max_image_size"]) for name, one in read.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the adapters read pictures of different sizes ({sizes}): use those of one size")
        return next(iter(read.values())).builder.transform

    def _adapters(self) -> str:
        return ", ".join(name for name in self.preprocessors if name != PLAIN)

    @torch.no_grad()
    def caption_pictures(
        self, asked: Sequence[Asked], search: Mapping[str, Any] | None = None, guidance: Guidance | None = None
    ) -> list[list[list[Written]]]:
        """As `Captioner.caption_pictures`, of styles as `styles` has them; all in one pass.

        Raises ValueError for guidance, and as `named`.
        """
        if guidance not in (None, Guidance()):
            raise ValueError("guidance does not go with adapters: leave it out, or export the adapter")
        groups: dict[tuple[int, str], list[str]] = {}
        for number, (_, styles) in enumerate(asked):
            for style in styles:
                adapter, name = self.named(style)
                groups.setdefault((number, adapter), []).append(name)
        items = [(name, self._item(asked[number][0], name, names)) for (number, name), names in groups.items()]
        found = iter(self._search(items, search or {}))
        beams = {key: iter([next(found) for _ in names]) for key, names in groups.items()}
        decode = next(iter(self.preprocessors.values()))
        return [
            [[written_of(decode, one) for one in next(beams[number, self.named(style)[0]])] for style in styles]
            for number, (_, styles) in enumerate(asked)
        ]

    def looked_at(self, *_: Any) -> Any:
        """ValueError: the layers that are looked into do not say whose rows they have."""
        raise ValueError("where a model looks is not shown with adapters: export the adapter, and ask that model")

    def caption(self, asked: Sequence[AdapterRequest], *, batch_size: int = 16, **search: Any) -> list[str]:
        """The caption of each request, in their order; `search` holds keywords of `generation.search_encoded`.

        Raises ValueError for an adapter or a style that is unknown, and an image that cannot be read.
        """
        for one in asked:
            if one.adapter not in self.preprocessors:
                raise ValueError(f"unknown adapter {one.adapter!r}: there are {self._adapters()}")
        samples = [Sample(os.fspath(one.image), "", _joined(one.adapter, one.style), "", ()) for one in asked]
        return [one.text for one in self.write(samples, batch_size=batch_size, **search)]

    @torch.no_grad()
    def write(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        strict: bool = True,
        style_intensity: float = 1.0,
        style_guidance: float | Mapping[str, float] = 0.0,
        image_guidance: float = 0.0,
        num_workers: int = 0,
        **search: Any,
    ) -> list[Caption]:
        """As `Captioner.write`, of styles as `styles` has them; images are loaded here, whatever `num_workers` is.

        Raises ValueError for guidance and an intensity too.
        """
        if style_intensity != 1.0 or style_guidance or image_guidance:
            raise ValueError("guidance and intensity do not go with adapters: leave them out, or export the adapter")
        named = [self.named(one.style) for one in samples]
        captions = [Caption("", False)] * len(samples)
        # The requests of one item of a batch share an image and an adapter.
        keys = [f"{adapter}\0{one.image}" for one, (adapter, _) in zip(samples, named, strict=True)]
        for groups in plan_batches(keys, batch_size):
            items: list[tuple[str, Any]] = []
            rows: list[int] = []
            for group in groups:
                adapter = named[group[0]][0]
                try:
                    items.append((adapter, self._item(samples[group[0]].image, adapter, [named[r][1] for r in group])))
                    rows += group
                except ValueError as error:
                    if strict:
                        raise
                    for row in group:
                        captions[row] = Caption("", False, str(error))
            for row, beams in zip(rows, self._search(items, search) if items else [], strict=True):
                # A model whose numbers have run away finishes no caption.
                best = written_of(self.preprocessors[named[row][0]], beams[0]) if beams else None
                captions[row] = Caption(best.text, best.ended) if best else Caption("", False)
        tell_faults(samples, captions)
        return captions

    def _item(self, image: ImageSource, adapter: str, styles: Sequence[str]) -> Any:
        samples = [Sample("", "", style, "", ()) for style in styles]
        return self.preprocessors[adapter]({"image": image, "samples": samples})

    def _search(self, items: Sequence[tuple[str, Any]], search: Mapping[str, Any]) -> list[list[Hypothesis]]:
        """The beams of each style of each (adapter, item), one after the other, in one pass."""
        batch, device = collate([item for _, item in items]), self.model.device
        names = ("input_ids", "image_index", "patch_masks", "patch_images")
        batch |= {name: batch[name].to(device) for name in names}
        batch["adapters"] = [items[row][0] for row in batch["image_index"].tolist()]
        builder = next(iter(self.preprocessors.values())).builder
        found = decode_prompts(self.model, builder, batch, Guidance(), self.search | dict(search))
        return [found[row] for row in batch["asked"].index]


def _joined(adapter: str, style: str) -> str:
    return style if adapter == PLAIN else f"{adapter}/{style}"


def _common_base(folders: Mapping[str, Path]) -> Path:
    """The model that all adapters belong to. ValueError where that are several."""
    bases = {name: base_of(folder) for name, folder in folders.items()}
    first, *others = bases
    if others:
        digests = {place: _digest(place) for place in {base.resolve() for base in bases.values()}}
        for other in others:
            if digests[bases[other].resolve()] != digests[bases[first].resolve()]:
                raise ValueError(
                    f"the adapters {first} and {other} belong to different models ({bases[first]}, {bases[other]}): "
                    "name adapters of one, or export them, which adds each to its weights"
                )
    return bases[first]


def _digest(base: Path) -> str:
    """Of the weights: the files beside them say which styles a run had."""
    weights = base / SAFETENSORS_FILE
    return digest_of(weights if weights.is_file() else base)
