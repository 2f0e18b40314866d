"""The examples of docs/extending.md run, each in a process of its own."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

EXAMPLES = re.findall(r"```python\n(# (\w+):.*?)```", (ROOT / "docs" / "extending.md").read_text(), flags=re.DOTALL)


def test_there_is_an_example_of_each() -> None:
    assert [name for _, name in EXAMPLES] == ["reader", "reward", "objective", "task"]


@pytest.mark.parametrize(("text", "name"), EXAMPLES, ids=[name for _, name in EXAMPLES])
def test_the_example_runs(text: str, name: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
