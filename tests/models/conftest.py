"""A small model whose every tensor is its own, and a directory that it was saved in."""

from pathlib import Path

import pytest

from models.ofa import OFAModel
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tests.models.nano import nano_model, nano_preprocessor
from tests.models.saved import save


@pytest.fixture(scope="session")
def preprocessor() -> OfaStylishImageCaptioningPreprocessor:
    return nano_preprocessor()


@pytest.fixture(scope="session")
def model(preprocessor) -> OFAModel:
    model = nano_model(len(preprocessor.tokenizer))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def saved(tmp_path: Path, model, preprocessor) -> Path:
    return save(tmp_path / "checkpoint", model, preprocessor)
