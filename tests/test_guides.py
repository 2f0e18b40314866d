"""Every command of the tutorial runs on a tiny set, and the snippets of the guides do what they say."""

import contextlib
import csv
import json
import pickle
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import finetune
from config import parse_config
from data.readers import read_split
from serving.web import Server
from tests.conftest import ROOT
from tests.models.nano import STYLES, noisy_picture
from tests.nano_run import CAPTIONS
from tests.serving.served import ask, data_url

TUTORIAL, GUIDE = (ROOT / "docs" / name for name in ("own_data.md", "personality_captions.md"))
#: So that a tutorial of an hour takes a test some seconds.
SMALL = {
    "train.max_steps": "2",
    "train.dtype": "float32",
    "data.num_workers": "0",
    "eval.bootstrap": "0",
    "eval.meteor": "false",
    "eval.spice": "false",
    "eval.sentence_encoder": "null",
}


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[words.index("finetune.py") + 1 :] for words in lines if "finetune.py" in words]


def snippet(name: str) -> str:
    found = re.search(rf"```python\n(# {name}:.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> Path:
    """The folder that the tutorial begins with: pictures and a table with its three columns."""
    folder = here / "photos"
    folder.mkdir()
    names = ["beach.jpg", *(f"{number}.png" for number in range(29))]
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "text", "style"])
        for number, name in enumerate(names):
            noisy_picture(folder / name, number)
            table.writerows([name, f"{CAPTIONS[style][0]} {number}", style] for style in STYLES)
    return folder


@contextlib.contextmanager
def one_request(photo: Path, answers: list[Any]) -> Iterator[pytest.MonkeyPatch]:
    """`serve` answers one client, and ends."""
    forever = Server.serve_forever

    def serve_once(server: Server) -> None:
        thread = threading.Thread(target=forever, args=(server, 0.02), daemon=True)
        thread.start()
        answers.append(ask(server, "/v1/captions", {"image": data_url(photo), "styles": ["Sweet"]}))
        server.shutdown()
        thread.join(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "serve_forever", serve_once)
        yield patch


def test_every_command_of_the_tutorial(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    todo, answers = commands(TUTORIAL), []  # type: list[list[str]], list[Any]
    assert [words[2] if words[0] == "--conf" else words[0] for words in todo] == [
        *("data", "doctor", "train", "eval", "inference", "report", "export", "caption", "serve"),
    ]
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    for words in todo:
        if words[0] == "--conf":
            words = [*words[:2], *settings, *words[2:]]
        if words[0] == "serve":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                words = [*words, "--port", str(free.getsockname()[1])]
        with one_request(photos / "beach.jpg", answers):
            assert finetune.main(words) == 0, f"{words}: {capsys.readouterr().err}"
    status, served = answers[0]
    assert status == 200
    lines = [json.loads(line) for line in Path("captions.jsonl").read_text().splitlines()]
    assert len(lines) == 30
    first = next(line for line in lines if line["image"].endswith("beach.jpg"))
    assert [(one["style"], one["caption"]) for one in served["captions"]] == [("Sweet", first["captions"]["Sweet"])]


def test_images_are_fetched_by_hash_and_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, store = here / "datasets" / "personality_captions", here / "store" / "abc" / "def"
    data.mkdir(parents=True)
    store.mkdir(parents=True)
    (store / "abcdef01.jpg").write_bytes(b"one")
    for split, name in (("train", "abcdef01"), ("val", "abcdef02"), ("test", "abcdef01")):
        (data / f"{split}.json").write_text(json.dumps([{"image_hash": name, "comment": "x", "personality": "Sweet"}]))
    code = re.sub(r'STORE = ".*"', f'STORE = "{(here / "store").as_uri()}"', snippet("images"))
    exec(compile(code, "images", "exec"), {"__name__": "snippet"})
    assert [path.name for path in (here / "datasets" / "yfcc_images").iterdir()] == ["abcdef01.jpg"]
    assert "abcdef02" in capsys.readouterr().out
    (store / "abcdef01.jpg").write_bytes(b"another")
    exec(compile(code, "images", "exec"), {"__name__": "snippet"})
    assert (here / "datasets" / "yfcc_images" / "abcdef01.jpg").read_bytes() == b"one"


def test_flickrstyle_becomes_a_table(here: Path) -> None:
    source, images = here / "datasets" / "FlickrStyle_v0.9", here / "datasets" / "flickr8k"
    images.mkdir(parents=True)
    names = ["1_a.jpg", "2_b.jpg"]
    for folder, file in (("humor", "funny_train.txt"), ("romantic", "romantic_train.txt")):
        (source / folder).mkdir(parents=True)
        (source / folder / "train.p").write_bytes(pickle.dumps(names))
        (source / folder / file).write_bytes(f"a {folder} dog\n\n caf\xe9, by night \n".encode("latin1"))
    exec(compile(snippet("flickrstyle"), "flickrstyle", "exec"), {"__name__": "snippet"})
    split = read_split("train", format="table", annotations=images, image_dir=None)
    found = [(Path(one.image).name, one.style, one.caption) for one in split]
    assert found[:2] == [("1_a.jpg", "Humorous", "a humor dog"), ("1_a.jpg", "Romantic", "a romantic dog")]
    assert found[2][2] == "caf\N{REPLACEMENT CHARACTER}, by night"


def test_the_guides_configurations_are_ones() -> None:
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```json\n(\{.*?)```", page, flags=re.DOTALL)]
    whole = [document for document in map(json.loads, blocks) if "work_dir" in document]
    assert len(whole) > 1
    for document in whole:
        parse_config(document)


def test_the_guide_names_recipes_and_pages_that_are_there() -> None:
    for page in (GUIDE, TUTORIAL):
        text = page.read_text(encoding="utf-8")
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert links
        assert [link for link in links if link and not (page.parent / link).exists()] == []
        assert [name for name in re.findall(r"conf/[\w/]+\.json", text) if not (ROOT / name).exists()] == []
