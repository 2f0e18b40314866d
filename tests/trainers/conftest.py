"""One rendered data set for all tests of training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data.demo import render
from tests.trainers.nano import STYLES, write_annotations


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    render(folder, images=28, seed=7)
    write_annotations(folder, "train", 24)
    write_annotations(folder, "val", 2)
    (folder / "styles.txt").write_text("\n".join(STYLES) + "\n")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
