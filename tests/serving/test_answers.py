"""A served model that answers questions about photos, over HTTP and on the page."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import finetune
from data.features import Regions, new_store
from models.towers.lite0 import PACKAGE
from serving.systems import open_systems
from serving.web import Server
from tests.serving.browser import CHROMIUM, browsing
from tests.serving.served import ask, data_url, serving
from tests.tasks.answering.nano import drawn_files, nano

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE} (EXTRAS=towers)")


def trained(root: Path, detector: str) -> Path:
    """A run of one update over grid features that `detector` is said to have made."""
    data = drawn_files(root)
    rng = np.random.default_rng(0)
    with new_store(root / "grids", dtype="float32", grid=(2, 2)) as writer:
        for file in sorted(Path(data["images"]).iterdir()):
            writer.add(Regions(file.stem, rng.random((4, 112), dtype=np.float32), size=(96, 96), grid=(2, 2)), "test")
        writer.finish(detector, [], 16)
    conf = nano(root, data=data | {"features": str(root / "grids")}, train={"max_steps": 1})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    return root / "run"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("answers")
    trained(root, "lite0@32")
    return root


@pytest.fixture(scope="module")
def picture(root: Path) -> Path:
    return next(file for file in sorted((root / "drawn" / "images").iterdir()))


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "run") as server:
        yield server


def test_a_question_is_answered(server: Server, picture: Path) -> None:
    body = {"image": data_url(picture), "question": "what color is the ball?", "top": 3}
    status, found = ask(server, "/v1/answers", body)
    assert status == 200
    shares = [row["probability"] for row in found["answers"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    (model,) = ask(server, "/v1/models")[1]["data"]
    assert (model["task"], model["styles"]) == ("answers", [])
    parts = [{"type": "text", "text": body["question"]}, {"type": "image_url", "image_url": {"url": body["image"]}}]
    chat = {"model": "run", "messages": [{"role": "user", "content": parts}], "n": 2}
    choices = ask(server, "/v1/chat/completions", chat)[1]["choices"]
    assert [one["message"]["content"] for one in choices] == [row["answer"] for row in found["answers"][:2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "question must be a text"),
        ({"question": None}, "question must be a text"),
        ({"images": []}, "is asked about 1 image(s), not 0"),
        ({"images": "x"}, "images must be a list"),
        ({"image": "x"}, "must be a data: URL"),
        ({"top": 0}, "top must be a whole number"),
    ],
)
def test_a_question_that_is_refused(server: Server, picture: Path, change: dict, message: str) -> None:
    status, found = ask(server, "/v1/answers", {"image": data_url(picture), "question": "what is it?"} | change)
    assert (status, message in found["error"]["message"]) == (400, True), found


def test_captions_are_asked_of_captioners(server: Server, picture: Path) -> None:
    status, found = ask(server, "/v1/captions", {"image": data_url(picture)})
    assert (status, "/v1/answers" in found["error"]["message"]) == (400, True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_page_has_a_question_box(server: Server, picture: Path, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile") as browser:
        browser.open(server.url, width=1280)
        browser.wait("!document.getElementById('answering').hidden")
        assert browser.evaluate("document.getElementById('captioning').hidden")
        browser.choose_file("#file", picture)
        browser.wait("document.getElementById('photo').naturalWidth > 0")
        browser.evaluate("at('question').value = 'what color is the ball?'; at('go').click()")
        browser.wait("document.querySelectorAll('.card').length === 5")
        assert browser.evaluate("document.querySelector('.card small').textContent").endswith("%")
        assert browser.messages == []


def test_a_model_of_features_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="features of someone's detector, which cannot be made"):
        open_systems([str(trained(tmp_path, "someone's detector"))])
