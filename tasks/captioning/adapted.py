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
from models.ofa.checkpoints import load_model
from models.ofa.mixed_adapters import open_adapters
from models.ofa.modeling import OFAModel
from models.ofa.saving import GENERATION, SAFETENSORS_FILE, read_configuration
from preprocessors.collate import collate
from tasks.captioning.asked_images import plan_batches
from tasks.captioning.captioner import place
from tasks.captioning.decoding import Guidance, decode_prompts

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

    Args:
        model: with the adapters in it (`models.ofa.mixed_adapters.open_adapters`).
        preprocessors: of each adapter.
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
    ) -> Self:
        """Adapters by name, each a checkpoint of `train.lora` or what `export --adapter` wrote.

        `base`: the model that they belong to; None is what they name, which must be the same for all. The settings of
        search are the first one's. Raises ValueError for a folder that is no adapter, and for adapters of different
        models.
        """
        from preprocessors import OfaStylishImageCaptioningPreprocessor

        peft_library()
        folders = {name: Path(folder) for name, folder in adapters.items()}
        if not folders:
            raise ValueError("no adapter is named: give {name: folder}")
        for name, folder in folders.items():
            if not is_adapter(folder):
                raise ValueError(f"adapter {name}: {folder} holds none: name a checkpoint of a run with train.lora")
        model = place(load_model(Path(base) if base is not None else _common_base(folders)), device)
        open_adapters(model, folders)
        read = {name: OfaStylishImageCaptioningPreprocessor.from_model_dir(one) for name, one in folders.items()}
        generation = read_configuration(next(iter(folders.values())))["pipeline"]["generation"]
        return cls(model, read, {name: generation[name] for name in GENERATION})

    @torch.no_grad()
    def caption(self, asked: Sequence[AdapterRequest], *, batch_size: int = 16, **search: Any) -> list[str]:
        """The caption of each request, in their order; `search` holds keywords of `generation.search_encoded`.

        Raises ValueError for an adapter or a style that is unknown, and an image that cannot be read.
        """
        for one in asked:
            if one.adapter not in self.preprocessors:
                raise ValueError(f"unknown adapter {one.adapter!r}: there are {', '.join(self.preprocessors)}")
            self.preprocessors[one.adapter].builder.prompt.text(one.style)
        captions = [""] * len(asked)
        # The requests of one item of a batch share an image and an adapter.
        keys = [f"{one.adapter}\0{os.fspath(one.image)}" for one in asked]
        for groups in plan_batches(keys, batch_size):
            rows = [row for group in groups for row in group]
            texts = self._write([[asked[row] for row in group] for group in groups], search)
            for row, text in zip(rows, texts, strict=True):
                captions[row] = text
        return captions

    def _write(self, groups: Sequence[Sequence[AdapterRequest]], search: Mapping[str, Any]) -> list[str]:
        """Captions of one batch, group after group."""
        items = []
        for group in groups:
            samples = [Sample("", "", one.style, "", ()) for one in group]
            items.append(self.preprocessors[group[0].adapter]({"image": os.fspath(group[0].image), "samples": samples}))
        batch, device = collate(items), self.model.device
        names = ("input_ids", "image_index", "patch_masks", "patch_images")
        batch |= {name: batch[name].to(device) for name in names}
        batch["adapters"] = [groups[row][0].adapter for row in batch["image_index"].tolist()]
        first = self.preprocessors[groups[0][0].adapter]
        found = decode_prompts(self.model, first.builder, batch, Guidance(), self.search | dict(search))
        # A model whose numbers have run away finishes no caption.
        ids = [found[row][0].tokens.tolist() if found[row] else [] for row in batch["asked"].index]
        return [" ".join(str(first.tokenizer.decode(one, skip_special_tokens=True)).split()) for one in ids]


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
