"""Checkpoints of a small model, and how to compare and spoil them."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.ofa import OFAModel
from models.ofa.checkpoints import save_directory
from preprocessors import OfaStylishImageCaptioningPreprocessor

GENERATION: dict[str, Any] = {
    "beam_size": 3,
    "max_len_b": 6,
    "min_len": 1,
    "no_repeat_ngram_size": 3,
    "length_penalty": 1.0,
}
COMPUTED = ("rp_bucket", "image_position_idx", "num_batches_tracked")
EVIL_MARK = "evil-code-ran"


def save(directory: Path, model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor, **changes) -> Path:
    settings = {"preprocessor": preprocessor.settings, "generation": GENERATION} | changes
    save_directory(directory, model, preprocessor.tokenizer, style_map=preprocessor.style_map, **settings)
    return directory


def rewrite(saved: Path, state: dict[str, Tensor]) -> None:
    """Other weights for a saved directory."""
    (saved / "model.safetensors").unlink()
    torch.save(state, saved / "pytorch_model.bin")


def assert_same_weights(one: OFAModel, other: OFAModel) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class Evil:
    def __reduce__(self):
        return os.mkdir, (EVIL_MARK,)
