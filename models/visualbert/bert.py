"""Start VisualBERT from a BERT checkpoint, as the original's pre-training does."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.visualbert.conversion import read_weights
from models.visualbert.modeling import VisualBERTModel

logger = logging.getLogger("stylecap")

#: Old names of a LayerNorm's parameters, in BERT checkpoints of 2018.
_OLD = {"gamma": "weight", "beta": "bias"}


def load_bert(model: VisualBERTModel, source: str | Path) -> list[str]:
    """Fill the words' embeddings, the layers, the pooler and, where there is one, the word head from a BERT.

    The visual position and type tables become copies of the words' tables. Returns the names that keep their initial
    values: the projection of the regions, and a task's head.

    Args:
        source: a directory of transformers' or a file of weights.

    Raises:
        ValueError: no BERT, or one of another size.
    """
    source = Path(source)
    given = bert_names(read_weights(source))
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own}
    needed = [name for name in own if name.startswith(("visual_bert.embeddings.word", "visual_bert.encoder."))]
    missing = [name for name in needed if name not in fitting]
    unlike = [name for name, tensor in fitting.items() if own[name].shape != tensor.shape]
    if missing or unlike:
        name = (unlike or missing)[0]
        shapes = f"{list(fitting[name].shape)} instead of {list(own[name].shape)}" if unlike else "missing"
        raise ValueError(f"{source} is no BERT of this model's size: {name} is {shapes}")
    model.load_state_dict(fitting, strict=False)
    model.tie_weights()
    model.copy_text_tables()
    copied = ("visual_position_embeddings", "visual_token_type_embeddings", "predictions.decoder")
    kept = [name for name in own if name not in fitting and not any(part in name for part in copied)]
    logger.info("%s has no %s: they start anew", source, ", ".join(kept))
    return kept


def bert_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A BERT's tensors under the names of a VisualBERT; with or without the prefix `bert.`."""
    named = {}
    for name, tensor in state.items():
        parts = name.split(".")
        parts[-1] = _OLD.get(parts[-1], parts[-1]) if "LayerNorm" in parts else parts[-1]
        name = ".".join(parts).removeprefix("bert.")
        inside = name.split(".")[0] in ("embeddings", "encoder", "pooler")
        named[f"visual_bert.{name}" if inside else name] = tensor
    return {name: tensor for name, tensor in named.items() if torch.is_floating_point(tensor)}
