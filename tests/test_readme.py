"""The commands of the README: each is one that the command line accepts, and each script is there."""

import re
import shlex

import pytest

import finetune
from conf.command_line import make_parser
from tests.conftest import ROOT


def commands() -> list[str]:
    """The lines of the README's shell blocks, without what they are piped into."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) > 15
    return lines


@pytest.mark.parametrize("line", [line for line in commands() if "finetune.py" in line])
def test_finetune_accepts_the_command(line: str):
    words = shlex.split(line, comments=True)
    start = words.index("finetune.py") + 1
    end = next((place for place, word in enumerate(words) if word in ("|", ">")), len(words))
    args = make_parser(finetune.COMMANDS, finetune._WITHOUT_CONF).parse_args(words[start:end])
    conf = getattr(args, "conf", None)
    assert conf is None or (ROOT / conf).exists()


@pytest.mark.parametrize("line", [line for line in commands() if "scripts/" in line])
def test_the_script_and_its_files_are_there(line: str):
    named = [word for word in shlex.split(line, comments=True) if word.endswith((".sh", ".json"))]
    assert named
    assert all((ROOT / word).exists() for word in named)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_make_knows_the_target(line: str):
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
