"""The Chinese README says what README says: the same sections, commands, tables and links."""

import re
from collections import Counter

import pytest

from tests.conftest import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
BLOCK = re.compile(r"```.*?```", flags=re.DOTALL)


def headings(page: str) -> list[int]:
    """The levels, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", BLOCK.sub("", page), flags=re.MULTILINE)]


def links(page: str) -> Counter[str]:
    return Counter(re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", page))) - Counter(["README.md", "README.zh.md"])


def shape(page: str) -> list[str]:
    """What kind of line each is that is not plain text: a row of a table, with its columns, or an item of a list."""
    lines = BLOCK.sub("", page).splitlines()
    return [f"| x {line.count('|')}" if line.startswith("|") else "-" for line in lines if line.startswith(("|", "- "))]


def spans(page: str) -> Counter[str]:
    """What stands between backquotes in the text: files, settings and commands."""
    return Counter(re.findall(r"`([^`]+)`", BLOCK.sub("", page)))


@pytest.mark.parametrize("what", [headings, BLOCK.findall, links, shape, spans])
def test_both_have_the_same(what) -> None:
    assert what(ENGLISH)
    assert what(CHINESE) == what(ENGLISH)


def test_each_links_to_the_other_at_the_top() -> None:
    assert "](README.zh.md)" in "".join(ENGLISH.splitlines()[:4])
    assert "](README.md)" in "".join(CHINESE.splitlines()[:4])


def test_sections_are_translated() -> None:
    titles = re.findall(r"^##+ (.+)$", BLOCK.sub("", CHINESE), flags=re.MULTILINE)
    assert all(re.search(r"[\u4e00-\u9fff]", title) for title in titles)
