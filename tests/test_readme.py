"""The commands of README and docs: each is one that the command line accepts, and each script is there."""

import json
import re
import shlex

import pytest

import finetune
from conf.command_line import make_parser
from config import parse_config
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = "my.json"  # whose content README shows


def blocks(language: str) -> list[str]:
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    return [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)]


def commands() -> list[str]:
    """The lines of the shell blocks, without what they are piped into."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    assert len(lines) > 15
    return lines


def test_the_configuration_that_is_shown_is_one():
    shown = [json.loads(block) for block in blocks("json") if block.startswith("{")]
    examples = [document for document in shown if document.get("work_dir") == "work_dir/mine"]
    assert examples
    assert all(parse_config(document).data.format == "personality" for document in examples)


@pytest.mark.parametrize("line", [line for line in commands() if "finetune.py" in line])
def test_finetune_accepts_the_command(line: str):
    words = shlex.split(line, comments=True)
    start = words.index("finetune.py") + 1
    end = next((place for place, word in enumerate(words) if word in ("|", ">")), len(words))
    args = make_parser(finetune.COMMANDS, finetune._WITHOUT_CONF).parse_args(words[start:end])
    conf = getattr(args, "conf", None)
    assert conf is None or conf == EXAMPLE or (ROOT / conf).exists()


@pytest.mark.parametrize("line", [line for line in commands() if "scripts/" in line])
def test_the_script_and_its_files_are_there(line: str):
    named = [word for word in shlex.split(line, comments=True) if word.endswith((".sh", ".json"))]
    assert named
    assert all((ROOT / word).exists() for word in named)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_make_knows_the_target(line: str):
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
