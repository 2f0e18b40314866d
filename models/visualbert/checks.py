"""What can be wrong with VisualBERT's inputs."""

from typing import Any

from torch import Tensor

from models.visualbert.configuration import VisualBERTConfig


def check_inputs(
    config: VisualBERTConfig,
    *,
    input_ids: Tensor,
    text_mask: Tensor,
    segment_ids: Tensor,
    features: Tensor,
    box_mask: Tensor,
    box_types: Tensor | None,
    alignment: Tensor | None,
) -> None:
    """Compare shapes and positions with each other and with the configuration; the shapes of `VisualBERTModel.forward`.

    Raises:
        ValueError: they do not fit.
    """
    wanted = 3 if config.head == "vcr" else 2
    if input_ids.ndim != wanted:
        layout = "[rows, choices, words]" if wanted == 3 else "[rows, words]"
        raise ValueError(f"input_ids are {list(input_ids.shape)}: head {config.head!r} takes {layout}")
    for name, tensor in {"text_mask": text_mask, "segment_ids": segment_ids}.items():
        _same_shape(name, tensor, "input_ids", input_ids)
    words = input_ids.shape[-1]
    if words > config.max_position_embeddings:
        raise ValueError(
            f"a text has {words} word pieces, but the model has {config.max_position_embeddings} positions: cut texts "
            "to that length"
        )
    if features.ndim != 3 or features.shape[-1] != config.visual_embedding_dim or len(features) != len(input_ids):
        raise ValueError(
            f"features are {list(features.shape)}, but the model takes [{len(input_ids)}, regions, "
            f"{config.visual_embedding_dim}]: use the features that the checkpoint was trained with"
        )
    for name, other in {"box_mask": box_mask, "box_types": box_types}.items():
        if other is not None:
            _same_shape(name, other, "features", features[..., 0])
    if alignment is not None:
        _check_alignment(alignment, input_ids, features.shape[1])


def answer_positions_of(text_mask: Tensor, given: Tensor | None) -> Tensor:
    """Where an answer is read, [B]: as `given`, or the last word but one. text_mask [B, T].

    Raises:
        ValueError: outside the text, or padding before it.
    """
    begins = text_mask[:, 0].bool()
    lengths = text_mask.sum(1).long()
    positions = lengths - 2 if given is None else given
    outside = (positions < 0) | (positions >= lengths)
    if bool((begins & ~outside).all()):  # one look where nothing is wrong
        return positions
    if not bool(begins.all()):
        raise ValueError("a text is padded at its beginning: padding stands at the end, positions are counted from 0")
    row = int(outside.nonzero()[0])
    raise ValueError(
        f"row {row} reads its answer at position {int(positions[row])}, outside its text of {int(lengths[row])} "
        "word pieces: a question ends with [MASK] [SEP]"
    )


def _check_alignment(alignment: Tensor, input_ids: Tensor, regions: int) -> None:
    if alignment.shape[:-2] != input_ids.shape[:-1] or alignment.shape[-2] < regions:
        rows = list(input_ids.shape[:-1])
        raise ValueError(f"alignment is {list(alignment.shape)}, but the batch needs {[*rows, regions, 'words']}")
    words = input_ids.shape[-1]
    if alignment.numel() and int(alignment.max()) >= words:
        raise ValueError(
            f"a region is aligned with word piece {int(alignment.max())}, beyond the text of {words} word pieces: cut "
            "the alignment with the text"
        )


def _same_shape(name: str, tensor: Any, of: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ValueError(f"{name} is {list(tensor.shape)}, but {of} need {list(other.shape)}")
