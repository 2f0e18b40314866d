"""`export --app`: a folder that starts by itself, as Hugging Face Spaces and ModelScope Studio start it."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import metadata_load

import finetune
from serving.app import HUB_PAGES
from serving.sharing import verify
from serving.space import needed, requirements
from tasks.captioning.captioner import Captioner
from tests.conftest import ROOT
from tests.nano_run import nano_run
from tests.serving.served import data_url, post, serving

SECONDS = 120


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("app")
    nano_run(root)
    assert finetune.main(["export", str(root / "run"), "--out", str(root / "space"), "--app"]) == 0
    return root


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[int]:
    """Where `app.py` listens: a process that has neither the checkout nor a path to look for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": "", "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    log = root / "app.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=root / "space", env=environment, stdout=stream, stderr=stream
        )
    try:
        end = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_the_folder_starts_by_itself_and_captions(root: Path, port: int) -> None:
    picture = root / "images" / "0.png"
    status, found = post(port, "/v1/captions", {"image": data_url(picture), "styles": ["Sweet"]})
    assert status == 200, found
    (expected,) = Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu").caption(
        [picture], styles=["Sweet"]
    )
    assert found["model"] == "run"
    assert found["captions"][0]["caption"] == expected["Sweet"]
    verify(root / "space")  # also after it has run


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_hubs_may_show_its_page_and_hand_requests_on(port: int, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request(method, "/", headers={"Origin": HUB_PAGES[0]})
    answer = connection.getresponse()
    assert answer.status == 200
    assert f"frame-ancestors {' '.join(HUB_PAGES)}" in answer.headers["Content-Security-Policy"]
    assert (b"<title>Stylecap" in answer.read()) == (method == "GET")


def test_a_server_of_ones_own_is_shown_within_no_other_page(root: Path) -> None:
    with serving(root / "run") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=SECONDS)
        connection.request("GET", "/")
        assert "frame-ancestors 'none'" in connection.getresponse().headers["Content-Security-Policy"]


def test_the_header_says_how_both_hubs_start_it(root: Path) -> None:
    found = metadata_load(root / "space" / "README.md")
    assert found is not None
    assert (found["sdk"], found["app_file"], found["title"]) == ("gradio", "app.py", "run")
    assert found["sdk_version"].split(".")[0].isdecimal()
    assert found["python_version"] == "3.11"
    assert found["deployspec"] == {"entry_file": "app.py"}
    assert found["domain"] == ["multi-modal"]
    assert found["license"] == "apache-2.0"


def test_requirements_are_pinned_as_tested_and_enough(root: Path) -> None:
    lines = (root / "space" / "requirements.txt").read_text().splitlines()
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [line.replace("[framework]", "") for line in lines if "==" in line]
    assert set(pinned) <= set(locked)
    assert {"torch", "transformers", "numpy"} <= {line.partition("==")[0] for line in pinned}
    assert [line.partition(">")[0] for line in lines if "==" not in line] == ["pillow"]  # which Gradio bounds
    assert not any(name in " ".join(lines) for name in ("matplotlib", "ray", "tensorboard", "pytest"))


def test_only_the_code_that_serving_needs_is_there(root: Path) -> None:
    code = root / "space" / "stylecap"
    copied = {path.relative_to(code).as_posix() for path in code.rglob("*.py")}
    assert {"serving/web.py", "tasks/captioning/captioner.py", "models/ofa/decoder.py"} <= copied
    assert not any(name.startswith(("tests/", "sweeps/", "benchmarks/", "finetune")) for name in copied)
    for name in copied:
        assert (code / name).read_bytes() == (ROOT / name).read_bytes()


def test_what_a_module_needs_is_found_wherever_it_is_imported() -> None:
    files, others = needed(["serving.batching"])
    assert [file.relative_to(ROOT).as_posix() for file in files] == ["serving/__init__.py", "serving/batching.py"]
    assert others == []
    files, others = needed(["tasks.answering.lxmert"])
    assert {"models/lxmert/modeling.py", "tasks/__init__.py"} <= {file.relative_to(ROOT).as_posix() for file in files}
    assert {"torch", "transformers"} <= set(others)
    with pytest.raises(ValueError, match="elsewhere is no package that pyproject.toml names"):
        requirements(["elsewhere"])
    assert requirements(["peft", "tqdm"]) == requirements(["tqdm"])  # an extra, which serving does without


def test_an_app_is_no_archive(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "space.tar.gz")
    assert finetune.main(["export", str(root / "run"), "--out", out, "--app"]) == 2
    assert "an app is a folder" in capsys.readouterr().err
