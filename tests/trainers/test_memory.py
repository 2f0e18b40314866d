"""Settings of memory on a CPU."""

import argparse
import os
import subprocess
import sys

import pytest

import finetune
from finetune import _prepare_for_torch as prepare


@pytest.mark.parametrize(("name", "value"), [("THP_MEM_ALLOC_ENABLE", "1"), ("GOMP_SPINCOUNT", "10000")])
def test_what_torch_reads_is_set_and_the_user_s_own_choice_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv(name, "0")  # so that what was there comes back
    monkeypatch.delenv(name)
    prepare()
    assert os.environ[name] == value
    monkeypatch.setenv(name, "0")
    prepare()
    assert os.environ[name] == "0"


def test_a_waiting_policy_of_the_user_s_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    prepare()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_it_can_be_called_before_torch_is_imported() -> None:
    program = "import sys, finetune, trainers.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_command_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def results(_: argparse.Namespace) -> int:
        """Says what is set."""
        found.append(os.environ.get("THP_MEM_ALLOC_ENABLE"))
        return 0

    monkeypatch.setitem(finetune.COMMANDS, "results", results)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert finetune.main(["results"]) == 0
    assert found == ["1"]
