"""Weights of any system: opened by what they are, and run on a made batch, to see whether two are the same model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.reading import load_json
from models.comparison import Difference, compare_outputs, outputs_of
from models.lxmert.checkpoints import load_model as load_lxmert
from models.lxmert.checkpoints import read_weights as read_lxmert
from models.lxmert.dictionaries import backbone
from models.lxmert.modeling import LxmertForPairs
from models.ofa.checkpoints import load_model as load_ofa
from models.ofa.checkpoints import read_tensors
from models.visualbert import VisualBERTModel
from models.visualbert.conversion import load_model as load_visualbert
from models.visualbert.example import example_batch

CONFIG_FILE = "config.json"
_ROWS, _WORDS, _BOXES, _SIDE = 2, 8, 6, 64
_HEAD_WIDTH = 64  # of every BERT, where nothing tells
_SPECIAL = 5  # entries at the beginning of a vocabulary that stand for no word


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        model_type: what its `config.json` says.
        beginnings: what names of its tensors begin with, and no other's.
        load: (path, attention heads or None) -> the whole model.
        batch: a made batch, the same for models that read the same.
        run: (model, batch) -> outputs.
    """

    model_type: str
    beginnings: tuple[str, ...]
    load: Callable[[Path, int | None], nn.Module]
    batch: Callable[[Any], Mapping[str, Tensor]]
    run: Callable[[Any, Mapping[str, Tensor]], Any]


def compare_weights(a: str | Path, b: str | Path, *, heads: int | None = None) -> list[Difference]:
    """Run the models in two files or folders on the same made batch; one row an output that both have.

    Args:
        heads: attention heads, where neither file nor `config.json` tells; None is a width of 64 each.

    Raises:
        ValueError: a file that cannot be read or is of no known system, models of two systems, or such as read other
            inputs.
    """
    (first, one), (second, other) = (open_weights(path, heads=heads) for path in (a, b))
    if first is not second:
        raise ValueError(f"{a} is a {first.model_type} and {b} a {second.model_type}: compare models of one system")
    batch, theirs = first.batch(one), first.batch(other)
    for name, tensor in batch.items():
        if name not in theirs or tensor.shape != theirs[name].shape or not torch.equal(tensor, theirs[name]):
            raise ValueError(
                f"{a} and {b} do not read the same {name}: their vocabularies, features or heads are of other sizes"
            )
    return compare_outputs(outputs_of(one, batch, first.run), outputs_of(other, batch, first.run))


def open_weights(path: str | Path, *, heads: int | None = None) -> tuple[System, nn.Module]:
    """The model in a file or folder, in evaluation mode, and its system. ValueError as `compare_weights`."""
    path = Path(path)
    system = system_of(path)
    return system, system.load(path, heads).eval()


def system_of(path: Path) -> System:
    """The system of a folder, by its `config.json`, or of weights, by their names; `.th` is VisualBERT's."""
    kind = _model_type(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else None
    if path.suffix == ".th" or (path / "model.th").is_file():
        kind = VISUALBERT.model_type
    if kind is None:
        names = [name.removeprefix("module.") for name in read_tensors(path)]
        found = [one for one in SYSTEMS if any(name.startswith(one.beginnings) for name in names)]
        kind = found[0].model_type if found else "model of no known system"
    for one in SYSTEMS:
        if one.model_type == kind:
            return one
    known = ", ".join(one.model_type for one in SYSTEMS)
    raise ValueError(f"{path} is a {kind}: weights of {known} can be compared")


def _model_type(path: Path) -> str | None:
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); copy it again") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    return None if kind is None else str(kind)


# --- VisualBERT ------------------------------------------------------------------------------------------------------


def _load_visualbert(path: Path, heads: int | None) -> VisualBERTModel:
    given: dict[str, Any] = {} if heads is None else {"num_attention_heads": heads}
    return load_visualbert(path, **given)


def _run_visualbert(model: VisualBERTModel, batch: Mapping[str, Any]) -> Any:
    return model.everything(**batch)


VISUALBERT = System(
    "visual_bert",
    ("visual_bert.", "bert.bert."),
    _load_visualbert,
    lambda model: example_batch(model.config),
    _run_visualbert,
)

# --- LXMERT ----------------------------------------------------------------------------------------------------------


def _load_lxmert(path: Path, heads: int | None) -> nn.Module:
    overrides: dict[str, Any] = {} if heads is None else {"num_attention_heads": heads}
    if heads is None and not (path / CONFIG_FILE).is_file():
        width = read_lxmert(path)["lxmert.embeddings.word_embeddings.weight"].shape[1]
        overrides["num_attention_heads"] = max(1, width // _HEAD_WIDTH)
    return load_lxmert(path, overrides=overrides)


def _lxmert_batch(model: Any) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    config = model.config
    words = min(_WORDS, config.max_position_embeddings)
    mask = (torch.arange(words) < (words - torch.arange(_ROWS) % 3)[:, None]).long()
    images = (_ROWS, 2, _BOXES) if isinstance(model, LxmertForPairs) else (_ROWS, _BOXES)
    return {
        "input_ids": torch.randint(_SPECIAL, config.vocab_size, (_ROWS, words), generator=draw) * mask,
        "attention_mask": mask,
        "visual_feats": torch.rand(*images, config.visual_feat_dim, generator=draw),
        "visual_pos": torch.rand(*images, config.visual_pos_dim, generator=draw),
    }


def _run_lxmert(model: Any, batch: Mapping[str, Tensor]) -> Any:
    """Its encoder's states (of a pair: of the left image) and what its heads make of them."""
    encoder = backbone(model)
    seen = dict(batch)
    if isinstance(model, LxmertForPairs):
        seen |= {name: batch[name][:, 0] for name in ("visual_feats", "visual_pos")}
    states = encoder(**seen)
    return {"encoder": states} if encoder is model else {"encoder": states, "head": model(**batch)}


LXMERT = System(
    "lxmert",
    ("lxrt_encoder.", "lxmert.", "encoder.x_layers.", "bert.encoder.x_layers."),
    _load_lxmert,
    _lxmert_batch,
    _run_lxmert,
)

# --- OFA -------------------------------------------------------------------------------------------------------------


def _ofa_batch(model: Any) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)

    def words() -> Tensor:
        return torch.randint(_SPECIAL, model.config.vocab_size, (_ROWS, _WORDS), generator=draw)

    pixels = torch.randn(_ROWS, 3, _SIDE, _SIDE, generator=draw)
    return {"input_ids": words(), "patch_images": pixels, "decoder_input_ids": words()}


OFA = System(
    "ofa",
    ("encoder.embed_tokens.", "encoder.embed_images.", "decoder.embed_tokens.", "decoder.layers."),
    lambda path, heads: load_ofa(path),
    _ofa_batch,
    lambda model, batch: model(**batch),
)

SYSTEMS = (VISUALBERT, LXMERT, OFA)
