"""Pages that are made from the code are those that the code makes now."""

import pytest

from config import schema_markdown
from docs.draw import DRAWINGS, ROOMS
from tests.conftest import ROOT


def test_the_page_of_settings_is_the_schema() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == schema_markdown() + "\n", "python finetune.py conf --schema --markdown > docs/configuration.md"


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == DRAWINGS[name](), "python docs/draw.py"


def test_every_room_is_drawn() -> None:
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert folders - {"conf", "docs", "tests"} <= set(ROOMS)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
