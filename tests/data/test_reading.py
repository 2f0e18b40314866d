"""Files of strangers: what is no plain file, and JSON that is deep, doubled or huge."""

import ast
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.typed import json_or_text, read_json_object
from data.files import read_object, write_json
from data.questions.files import read_json
from data.readers import read_styles
from data.reading import MAX_DEPTH, load_json, open_file, parse_json, unpacked
from tests.conftest import ROOT


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("text", [nested(MAX_DEPTH + 1), nested(100_000), '{"a":' * 500 + "1" + "}" * 500])
def test_what_is_nested_deeply_is_refused_everywhere(tmp_path: Path, text: str):
    with pytest.raises(ValueError, match="nested more than"):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (load_json, read_json, read_object, lambda path: read_json_object(str(path))):
        with pytest.raises(ValueError, match="nested"):
            read(path)
    assert json_or_text(text) == text


def test_what_is_nested_as_data_are_is_read():
    assert parse_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]', '{"1": [], "": 0, "1": []}'])
def test_a_key_that_stands_twice_is_named(text: str):
    with pytest.raises(ValueError, match="'(a|1)' stands twice"):
        parse_json(text)


def test_numbers_of_thousands_of_digits_are_refused():
    with pytest.raises(ValueError, match="digits"):
        parse_json("1" * 5000)


def test_half_a_character_is_written_as_json_writes_it(tmp_path: Path):
    content = {"caption": "half \ud83d of a smile", "whole": "é 你"}
    write_json(tmp_path / "a.json", content)
    assert read_object(tmp_path / "a.json") == content


# --- plain files -----------------------------------------------------------------------------------------------------


def test_pipes_devices_folders_and_endless_links_are_no_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in (
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "loop", "symbolic links"),
        (tmp_path / "no\0name", "no name of a file"),
    ):
        with pytest.raises(OSError, match=message):
            open_file(path)


def test_a_pipe_is_refused_by_every_reader_at_once(tmp_path: Path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for read in (read_json, read_object, read_styles, lambda path: read_json_object(str(path))):
        with pytest.raises(ValueError, match="not a regular file"):
            read(pipe)


def test_a_link_to_a_file_is_a_file(tmp_path: Path):
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").symlink_to("a.json")
    assert load_json(tmp_path / "b.json") == [1]


def test_what_grows_beyond_proportion_when_unpacked_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("data.reading._SMALL", 1000)
    assert unpacked(gzip.compress(b"a" * 900)) == b"a" * 900
    with pytest.raises(ValueError, match="when it is unpacked"):
        unpacked(gzip.compress(b"a" * 10**6))
    for damaged in (b"no gzip", gzip.compress(b"abc" * 100)[:-9]):
        with pytest.raises(ValueError, match=r"gzip|end-of-stream"):
            unpacked(damaged)


# --- one way in ------------------------------------------------------------------------------------------------------

#: Modules that may parse JSON otherwise, and why.
OWN_JSON = {
    "conf/typed.py": "imports the standard library only; its limits are tested here",
    "conf/common.py": "turns its own values around",
    "data/reading.py": "is the way in",
    "data/questions/records.py": "unpacks what it packed",
    "evaluation/java.py": "reads what it had written a moment ago",
    "evaluation/jq_program.py": "is told by its parent",
    "evaluation/json_query.py": "reads what its own process says",
    "models/ofa/tokenization.py": "asks the tokenizers library",
    "sweeps/display.py": "shows a run's own history",
    "sweeps/on_ray.py": "reads what its own runs wrote",
    "tasks/evaluating.py": "turns its own values around",
}


def test_json_of_files_is_read_in_one_place():
    folders = "conf data evaluation metrics models preprocessors report rewards serving sweeps tasks trainers".split()
    files = [*ROOT.glob("*.py"), *(file for name in folders for file in (ROOT / name).rglob("*.py"))]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.load", "json.loads"):
                found.add(file.relative_to(ROOT).as_posix())
    assert found - OWN_JSON.keys() == set(), "use data.reading"


def test_pictures_are_decoded_in_one_place():
    found = [
        file.relative_to(ROOT).as_posix()
        for name in ("data", "preprocessors", "tasks", "report", "evaluation", "models")
        for file in (ROOT / name).rglob("*.py")
        if "Image.open(" in file.read_text(encoding="utf-8")
    ]
    assert found == ["data/images.py"]


def test_reading_imports_little():
    code = "import sys, data.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
