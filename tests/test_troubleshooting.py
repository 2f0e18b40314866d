"""Every message that the page of troubles quotes is one that the program says."""

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

ROOMS = ("conf", "data", "models", "preprocessors", "rewards", "trainers", "evaluation", "tasks", "serving", "sweeps")
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
GAP = "\0"  # where a name or a number stands


@cache
def said() -> tuple[str, ...]:
    """The texts of the code, with a gap for each value in them."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    found = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            parts = (one.value if isinstance(one, ast.Constant) else GAP for one in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%\.?\d*[sdf]", GAP, node.value))
    return tuple(found)


def test_there_are_messages_of_each_group() -> None:
    groups = re.findall(r"^## (\w+)", PAGE, flags=re.MULTILINE)
    assert groups == ["Install", "Data", "Weights", "Training", "Memory", "Decoding", "Serving"]
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_found_in_the_code(message: str) -> None:
    parts = map(re.escape, message.split("…"))
    wanted = re.compile(".*".join(parts), flags=re.DOTALL)
    assert any(wanted.search(text) for text in said())
