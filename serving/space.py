"""What makes an exported folder an app that Hugging Face Spaces and ModelScope Studio start as it is.

The code that the server needs is copied beside the model, so nothing is to be installed but public packages.
"""

import ast
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path

from data.reading import read_text
from models.towers.lite0 import PACKAGE
from tasks.answering.models import NETWORKS, SETTINGS_FILE, Settings

ROOT = Path(__file__).resolve().parents[1]
CODE = "stylecap"
APP, REQUIREMENTS = "app.py", "requirements.txt"
#: The Gradio that Spaces install beside the requirements, whatever an app is made with. The server does without.
GRADIO = "6.31.0"
PYTHON = "3.11"
#: Packages that Gradio holds below the tested version.
_BESIDE_GRADIO = {"pillow": "pillow>=11,<13  # Gradio, which Spaces install as well, takes none later"}
_START = '''"""Starts the page of the model in this folder: python app.py, then http://localhost:{port}

Hugging Face Spaces and ModelScope Studio run it as it is. It listens where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT
say, as apps of these hubs do; GRADIO_SERVER_NAME=127.0.0.1 keeps it to this machine.
"""

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "{code}"))

from serving.app import run_app  # noqa: E402  beside this file

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run_app(
        HERE,
        {name},
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "{port}")),
    )
'''
_PORT = 7860


def add_app(folder: Path, name: str, card: str) -> str:
    """Writes app.py, requirements.txt and the code that both stand for into an exported `folder`.

    Returns the model's card with the header that both hubs read. Raises ValueError for code whose package has no line
    in pyproject.toml or requirements.lock.
    """
    files, imported = needed(_roots(folder))
    for file in files:
        _copy(file, folder / CODE)
    for file in (*sorted((ROOT / "serving" / "page").iterdir()), ROOT / "LICENSE"):
        _copy(file, folder / CODE)
    (folder / APP).write_text(_START.format(code=CODE, name=json.dumps(name), port=_PORT), encoding="utf-8")
    lines = requirements(imported, _towers(folder))
    (folder / REQUIREMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return with_header(card, name)


def needed(roots: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files of this project that modules need, wherever in them it is imported, and the packages of others."""
    files: dict[str, Path] = {}
    others: set[str] = set()
    waiting = list(roots)
    while waiting:
        parts = waiting.pop().split(".")
        found = False
        for end in range(1, len(parts) + 1):
            module = ".".join(parts[:end])
            file = _file_of(module)
            if file is None:
                break
            found = True
            if module not in files:
                files[module] = file
                waiting += _imports(file)
        if not found and parts[0] not in sys.stdlib_module_names:
            others.add(parts[0])
    return sorted(files.values()), sorted(others)


def requirements(imported: Sequence[str], on_request: Sequence[str] = ()) -> list[str]:
    """A line of requirements.txt for the package behind each import, in the version that this project is tested with.

    Packages of extras are left out, for the code does without, but for those behind the imports `on_request`, which are
    asked for in the version that is here.
    """
    owners = packages_distributions()
    always, extras = ({_plain(line): re.split("[<>=]", line)[0] for line in lines} for lines in _declared())
    tested = dict(_pins())
    lines = set()
    for module in (*imported, *on_request):
        names = {_plain(owner) for owner in owners.get(module, [module])}
        name = next((name for name in names if name in always or name in extras), None)
        if name is None:
            raise ValueError(f"{module} is no package that pyproject.toml names: add it there")
        if name in always:
            lines.add(_BESIDE_GRADIO.get(name) or f"{always[name]}=={tested[name]}")
        elif module in on_request:
            lines.add(f"{extras[name]}=={version(name)}")
    return sorted(lines, key=str.lower)


def with_header(card: str, name: str) -> str:
    """A model's card whose header starts an app: keys of Spaces, and of Studio (`domain`, `deployspec`)."""
    _, header, text = card.split("---\n", 2)
    kept = [line for line in header.splitlines() if line.startswith(("license:", "tags:"))]
    lines = [
        f"title: {json.dumps(name, ensure_ascii=False)}",
        "emoji: 📷",
        "colorFrom: blue",
        "colorTo: indigo",
        "sdk: gradio",
        f"sdk_version: {json.dumps(GRADIO)}",
        f"python_version: {json.dumps(PYTHON)}",
        f"app_file: {APP}",
        "pinned: false",
        "domain: [multi-modal]",
        f"deployspec: {{entry_file: {APP}}}",
        *kept,
    ]
    return "\n".join(["---", *lines, "---", text])


def _roots(folder: Path) -> list[str]:
    if not (folder / SETTINGS_FILE).exists():
        return ["serving.app"]
    return ["serving.app", NETWORKS[Settings.read(folder).type].partition(":")[0]]


def _towers(folder: Path) -> list[str]:
    """Packages of weights that a model which answers questions sees pictures with."""
    if not (folder / SETTINGS_FILE).exists():
        return []
    return [PACKAGE] if (Settings.read(folder).detector or "").startswith("lite0") else []


def _file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # a module, or a name in one


def _copy(file: Path, folder: Path) -> None:
    target = folder / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _plain(requirement: str) -> str:
    """The name of a package as indexes write it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=; ]", requirement)[0]).lower()


def _declared() -> tuple[list[str], list[str]]:
    """The lines of pyproject.toml for what is always installed, and for the extras."""
    project = tomllib.loads(read_text(ROOT / "pyproject.toml"))["project"]
    return project["dependencies"], [line for lines in project["optional-dependencies"].values() for line in lines]


def _pins() -> Iterator[tuple[str, str]]:
    for line in read_text(ROOT / "requirements.lock").splitlines():
        if "==" in line and not line.startswith("#"):
            yield _plain(line), line.partition("==")[2].strip()
