"""Settings of memory on a CPU."""

import os
import subprocess
import sys

import pytest

from trainers.memory import use_huge_pages


def test_the_user_s_own_choice_of_huge_pages_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_it_can_be_called_before_torch_is_imported() -> None:
    program = "import sys, finetune, trainers.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
