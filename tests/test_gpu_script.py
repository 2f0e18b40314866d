"""`benchmarks/gpu.sh` where there is no GPU: what it says, and that its checks run."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import Machine, Row, run, to_json
from benchmarks.gpu_checks import CHECKS
from tests.conftest import ROOT


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(torch.device("cpu"), tmp_path, small=True)


def script(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_cuda_it_says_so_in_one_line():
    done = script()
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "no CUDA" in line


def test_a_small_check_from_the_command_prints_a_table_and_json():
    done = script("--device", "cpu", "--only", "waits")
    assert done.returncode == 0, done.stdout + done.stderr
    *table, last, rows = done.stdout.splitlines()
    assert "check" in table[1]
    assert last == "all 1 passed"
    assert [row["check"] for row in json.loads(rows)] == ["waits"]


@pytest.mark.parametrize("name", ["parity", "generation", "step_1", "step_2", "resumption"])
def test_each_check_passes_on_a_cpu(machine: Machine, name: str):
    rows = run({name: CHECKS[name]}, machine, 1000)
    assert rows
    assert [row for row in rows if not row.passed] == []


def test_a_check_that_raises_and_one_without_time_fail_and_leave_the_others(machine: Machine):
    def broken(machine: Machine) -> Iterator[Row]:
        yield Row("broken", "first", 0.1, 0.2)
        raise RuntimeError("CUDA error:\n too bad")

    def whole(machine: Machine) -> Iterator[Row]:
        yield Row("whole", "found", float("nan"), 1.0)
        yield Row("whole", "more than is allowed", 2.0, 1.0)
        yield Row("whole", "for the record", 2.0)

    rows = run({"broken": broken, "whole": whole}, machine, 1000)
    assert [row.passed for row in rows] == [True, False, False, False, True]
    assert rows[1].note == "RuntimeError: CUDA error: too bad"
    assert to_json(rows[1])["found"] is None
    [late] = run({"whole": whole}, machine, -1.0)
    assert not late.passed
