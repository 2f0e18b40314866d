"""Several adapters over one model, a row of a batch each: peft's mixed batches, through the encoder and every step of
a search.

peft asks for the name of each row's adapter at every layer. Rows come and go while captions are searched, so the names
travel with what is encoded (`OFAEncoderOutput.adapters`, `Source.adapters`), and encoder and decoder say before their
layers run whose rows these are. The embedding's rows that an adapter has are looked up, and tied to the output, here:
peft would copy the whole embedding for every adapter at every step.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ofa.adapters import attach, read_adapter, read_rows

if TYPE_CHECKING:
    from models.ofa.modeling import OFAModel

#: The name of no adapter, as peft has it.
PLAIN = "__base__"
#: Where a layer sees each request's own rows: before and beside the layers, prompts and images share what is computed.
_LAYERS = ("encoder.layers.", "decoder.layers.")


class AdapterRows:
    """Which adapter each row belongs to, while layers run; and the embedding's rows of each adapter."""

    def __init__(self, tokens: Mapping[str, tuple[list[int], Tensor]]) -> None:
        self.names: Sequence[str] | None = None
        self._tokens = tokens

    @contextlib.contextmanager
    def of(self, names: Sequence[str] | None) -> Iterator[None]:
        """Within the block rows belong to `names`, as many rows to each as there are, one after the other."""
        self.names = names
        try:
            yield
        finally:
            self.names = None

    def each(self, rows: int) -> list[str]:
        """The adapter of each of `rows` rows."""
        assert self.names is not None, "rows of a model with several adapters name theirs"
        return [name for name in self.names for _ in range(rows // len(self.names))]

    def to_layer(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """A hook before a layer of LoRA."""
        return args, kwargs | {"adapter_names": self.each(args[0].shape[0])}

    def embed(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """A hook after the embedding: ids [N, L] -> [N, L, D]."""
        for places, ids, vectors in self._by_adapter(args[0].shape[0]):
            tokens = args[0][places]
            found = output[places]
            for token, vector in zip(ids, vectors, strict=True):
                found = torch.where(tokens.eq(token)[..., None], vector.to(found.dtype), found)
            output = output.index_copy(0, places, found)
        return output

    def project(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """A hook after the output projection, whose weights are the embedding's: states [N, D] -> logits [N, V]."""
        for places, ids, vectors in self._by_adapter(args[0].shape[0]):
            own = F.linear(args[0][places], vectors.to(args[0].dtype)).to(output.dtype)
            output[places[:, None], torch.tensor(ids, device=output.device)] = own
        return output

    def _by_adapter(self, rows: int) -> Iterator[tuple[Tensor, list[int], Tensor]]:
        """Rows [n], and ids and vectors [E, D] of the embedding, of each adapter that has some."""
        names = self.each(rows) if self.names is not None else []
        for name in dict.fromkeys(names):
            ids, vectors = self._tokens.get(name, ([], None))
            if ids and vectors is not None:
                places = [row for row, other in enumerate(names) if other == name]
                yield torch.tensor(places, device=vectors.device), ids, vectors


def open_adapters(model: "OFAModel", folders: Mapping[str, Path]) -> None:
    """Put several adapters into a model, in place; from now on `adapters` names that of each prompt.

    Raises:
        ValueError: peft is not installed; an adapter does not fit, or changes what requests share.
    """
    from peft.tuners.lora import LoraLayer

    tokens = {}
    device = model.device
    for name, folder in folders.items():
        shared = sorted(one for one in read_adapter(folder, rows=False) if not one.startswith(_LAYERS))
        if shared:
            raise ValueError(
                f"adapter {name} ({folder}) changes {shared[0].partition('.lora_')[0]}, which the requests of a batch "
                "share: export it, which adds it to the weights, or train with targets within the layers"
            )
        attach(model, folder, name=name, rows=False)
        ids, vectors = read_rows(folder)
        tokens[name] = (ids, vectors.to(device) if vectors is not None else None)
    rows = AdapterRows(tokens)  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.register_forward_pre_hook(rows.to_layer, with_kwargs=True)
    model.encoder.embed_tokens.register_forward_hook(rows.embed)
    model.decoder.output_projection.register_forward_hook(rows.project)
    model.encoder.adapter_rows = model.decoder.adapter_rows = rows


def in_rows(part: Any, names: Sequence[str] | None) -> contextlib.AbstractContextManager[None]:
    """Within the block the rows of `part`, an encoder or decoder, belong to the adapters called `names`."""
    rows: AdapterRows | None = part.adapter_rows
    return rows.of(names) if rows is not None else contextlib.nullcontext()
