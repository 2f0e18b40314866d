"""Golden outputs of the original systems: every case that a folder holds becomes a test.

A test function says which files it is for, `@pytest.mark.goldens("lxmert_encoder*", system="lxmert")`, and gets each
that is there as `golden`. Without `--goldens DIR` the folder is `SHARED/parity/SYSTEM`; with it, DIR and its
subfolders, and a test whose files DIR does not hold is left out. File names may carry a suffix, sizes and numbers may
be any.
"""

import importlib.util
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.conftest import SHARED, needs_shared


@dataclass(frozen=True)
class Golden:
    """One case: `NAME.json`, and `NAME.npz` where it has arrays."""

    path: Path

    @cached_property
    def json(self) -> Any:
        return json.loads(self.path.read_text(encoding="utf-8"))

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        file = self.path.with_suffix(".npz")
        return dict(np.load(file)) if file.exists() else {}


@cache
def parity_weights() -> ModuleType:
    """The module that makes each weight of a golden case from its name and shape."""
    spec = importlib.util.spec_from_file_location("parity_weights", SHARED / "parity" / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("goldens")
    if mark is None:
        return
    found = [Golden(path) for path in _found(metafunc.config.getoption("--goldens"), mark)]
    marks = () if SHARED.is_dir() else (needs_shared,)
    metafunc.parametrize("golden", [pytest.param(golden, id=golden.path.stem, marks=marks) for golden in found])


def _found(folder: str | None, mark: pytest.Mark) -> list[Path]:
    """The files for a test; `when`, a function of their content, tells apart those whose names are alike."""
    root = Path(folder) if folder else SHARED / "parity" / mark.kwargs["system"]
    when = mark.kwargs.get("when", lambda content: True)
    paths = {path for pattern in mark.args for path in root.rglob(f"{pattern}.json")}
    return [path for path in sorted(paths) if (content := _json(path)) is not None and when(content)]


def _json(path: Path) -> Any:
    """The content of a file; None for JSON lines, which are no case."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test without a case is left out where a folder was named: it may hold the cases of one system only."""
    if config.getoption("--goldens") is None:
        return
    empty = [item for item in items if item.get_closest_marker("goldens") and "NOTSET" in item.name]
    config.hook.pytest_deselected(items=empty)
    items[:] = [item for item in items if item not in empty]
