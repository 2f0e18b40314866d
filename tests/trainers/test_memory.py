"""Settings of memory on a CPU."""

import argparse
import os
import subprocess
import sys
from typing import Any

import pytest

import finetune
from config import Config
from finetune import _use_huge_pages as use_huge_pages


def test_the_user_s_own_choice_of_huge_pages_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # so that what was there comes back
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_it_can_be_called_before_torch_is_imported() -> None:
    program = "import sys, finetune, trainers.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_training_asks_for_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def run_training(*_: Any, **__: Any) -> dict[str, Any]:
        found.append(os.environ.get("THP_MEM_ALLOC_ENABLE"))
        return {}

    monkeypatch.setattr("tasks.training.run_training", run_training)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert finetune.train(Config(), argparse.Namespace(resume=False, allow_changed_data=False)) == 0
    assert found == ["1"]
