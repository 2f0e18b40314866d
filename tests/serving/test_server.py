"""The server over HTTP: captions, the chat interface, and everything that is refused."""

import base64
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import finetune
from serving.systems import Captions, open_systems
from serving.web import Server
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES, noisy_picture
from tests.nano_run import nano_run
from tests.serving.served import SECONDS, ask, data_url, serving


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    nano_run(root)
    return root


@pytest.fixture(scope="module")
def captioner(root: Path) -> Captioner:
    return Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "run") as server:
        yield server


@pytest.fixture
def image(root: Path) -> str:
    return data_url(root / "images" / "0.png")


def chat(image: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": "describe it"}, {"type": "image_url", "image_url": {"url": image}}]
    return {"model": "run/Sweet", "messages": [{"role": "user", "content": parts}], **more}


def test_captions_are_those_of_the_file(server: Server, root: Path, captioner: Captioner, image: str) -> None:
    status, found = ask(server, "/v1/captions", {"image": image, "styles": ["sweet", "Humorous"]})
    assert status == 200
    (expected,) = captioner.caption([str(root / "images" / "0.png")], styles=["Sweet", "Humorous"])
    assert {row["style"]: row["caption"] for row in found["captions"]} == expected
    assert found["model"] == "run"
    for row in found["captions"]:
        assert row["beams"][0] == {"text": row["caption"], "score": row["score"], "ended": row["beams"][0]["ended"]}
        assert len(row["beams"]) == 2
    assert [row["style"] for row in ask(server, "/v1/captions", {"image": image})[1]["captions"]] == list(STYLES)
    named = ask(server, "/v1/captions", {"image": image, "model": "run/Cynical"})[1]["captions"]
    assert [row["style"] for row in named] == ["Cynical"]


def test_settings_of_the_search_and_guidance_are_those_of_the_captioner(
    server: Server, root: Path, captioner: Captioner, image: str
) -> None:
    settings: dict[str, Any] = {"beam_size": 3, "max_len_b": 4}
    found = ask(server, "/v1/captions", {"image": image, "style_guidance": 4.0, **settings})[1]["captions"]
    (expected,) = captioner.caption([str(root / "images" / "0.png")], style_guidance=4.0, **settings)
    assert {row["style"]: row["caption"] for row in found} == expected
    assert all(len(row["beams"]) == 3 for row in found)


def test_many_clients_get_each_their_own(server: Server, root: Path, captioner: Captioner) -> None:
    files = [Path(noisy_picture(root / f"many{seed}.png", 100 + seed)) for seed in range(24)]
    expected = [captioner.caption_pictures([(file, ["Sweet"])])[0][0][0] for file in files]
    bodies = [{"image": data_url(file), "styles": ["Sweet"]} for file in files]
    passes = server.api.batchers["run"].passes
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda body: ask(server, "/v1/captions", body), bodies))
    assert [status for status, _ in found] == [200] * 24
    # Captions of so small a model are often alike; their scores are not.
    assert len({round(one.score, 3) for one in expected}) > 20
    for (_, one), known in zip(found, expected, strict=True):
        assert one["captions"][0]["caption"] == known.text
        assert one["captions"][0]["score"] == pytest.approx(known.score, abs=1e-3)
    assert server.api.batchers["run"].passes - passes < 24


def test_styles_of_one_image_share_its_pass(root: Path, image: str, captioner: Captioner) -> None:
    from serving.asked import caption_ask

    (system,) = open_systems([str(root / "run")], device="cpu").values()
    assert isinstance(system, Captions)
    asked = [caption_ask(system, {}, image, [style]) for style in STYLES]
    seen: list[int] = []
    tower = system.captioner.model.encoder.embed_images
    hook = tower.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = system.run(asked)
    hook.remove()
    assert seen == [1]
    assert [list(one) for one in found] == [[style] for style in STYLES]
    system.most = 2
    again = system.run(asked)
    assert [one[style][0].text for one, style in zip(again, STYLES, strict=True)] == [
        one[style][0].text for one, style in zip(found, STYLES, strict=True)
    ]


# --- chat


def test_a_chat_writes_the_caption(server: Server, root: Path, captioner: Captioner, image: str) -> None:
    status, found = ask(server, "/v1/chat/completions", chat(image))
    assert status == 200
    (expected,) = captioner.caption([str(root / "images" / "0.png")], styles=["Sweet"])
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"]["content"] == expected["Sweet"]
    other = ask(server, "/v1/chat/completions", chat(image, style="Cynical", n=2))[1]["choices"]
    cynical = ask(server, "/v1/captions", {"image": image, "styles": ["Cynical"]})[1]["captions"][0]
    assert [one["message"]["content"] for one in other] == [beam["text"] for beam in cynical["beams"]]
    short = ask(server, "/v1/chat/completions", chat(image, max_tokens=1))[1]["choices"][0]
    assert short["finish_reason"] in ("stop", "length")


def test_a_chat_can_be_streamed(server: Server, image: str) -> None:
    whole = ask(server, "/v1/chat/completions", chat(image))[1]["choices"][0]["message"]["content"]
    status, text = ask(server, "/v1/chat/completions", chat(image, stream=True))
    assert status == 200
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == whole
    assert pieces[-1]["finish_reason"] in ("stop", "length")


def test_the_client_of_openai_works_unchanged(server: Server, image: str) -> None:
    openai = pytest.importorskip("openai", reason="needs pip install openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    found = client.chat.completions.create(**chat(image))
    expected = ask(server, "/v1/chat/completions", chat(image))[1]["choices"][0]["message"]["content"]
    assert found.choices[0].message.content == expected
    body = chat(image) | {"model": "run"}
    assert client.chat.completions.create(**body, extra_body={"style": "sweet"}).choices[0].message.content == expected
    pieces = client.chat.completions.create(**chat(image), stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected
    assert "run/Sweet" in [model.id for model in client.models.list()]
    with pytest.raises(openai.BadRequestError, match="did you mean Sweet"):
        client.chat.completions.create(**chat(image) | {"model": "run/Swet"})
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.chat.completions.create(**chat(image) | {"model": "gpt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "not empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role user"),
        ({"messages": [{"role": "user", "content": "no image"}]}, "one image, not 0"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "text or image_url"),
        ({"messages": [{"role": "user", "content": 3}]}, "a text, or a list"),
        ({"model": "run"}, "no style: name one"),
        ({"n": 0}, "n must be a whole number"),
        ({"max_tokens": "many"}, "max_tokens must be"),
    ],
)
def test_a_chat_that_is_refused(server: Server, image: str, change: dict[str, Any], message: str) -> None:
    status, found = ask(server, "/v1/chat/completions", chat(image) | change)
    assert status == 400
    assert message in found["error"]["message"]


# --- what is refused


def png(width: int, height: int) -> str:
    """A PNG that says it is so large, and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = b"IEND"
    content += struct.pack(">I", 0) + end + struct.pack(">I", zlib.crc32(end))
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"image": None}, 400, "the image is missing"),
        ({"image": "FILE"}, 400, "paths are not opened"),
        ({"image": "file://FILE"}, 400, "paths are not opened"),
        ({"image": "http://pictures.invalid/a.jpg"}, 400, "addresses and paths are not opened"),
        ({"image": "data:image/png,abc"}, 400, "must be in base64"),
        ({"image": "data:image/png;base64,###"}, 400, "no valid base64"),
        ({"image": "data:image/png;base64,"}, 400, "empty"),
        ({"image": "data:image/png;base64,aGVsbG8="}, 400, "cannot be read"),
        ({"image": png(7000, 6000)}, 413, "more than 40 million pixels"),
        ({"image": png(70000, 60000)}, 413, "more than 40 million pixels"),
        ({"image": png(8, 8)}, 400, "cannot be read"),
        ({"styles": ["Swet"]}, 400, "did you mean Sweet"),
        ({"styles": "Sweet"}, 400, "styles must be a list"),
        ({"styles": [3]}, 400, "styles must be a list"),
        ({"beam_size": 0}, 400, "beam_size must be a whole number from 1 to 20"),
        ({"beam_size": 2.5}, 400, "whole number"),
        ({"beam_size": True}, 400, "whole number"),
        ({"min_len": 5, "max_len_b": 3}, 400, "min_len is above"),
        ({"intensity": 1e9}, 400, "intensity must be a number"),
        ({"style_guidance": 1e9}, 400, "style_guidance must be a number"),
        ({"styles": ["0.5*Swet"]}, 400, "did you mean Sweet"),
        ({"styles": ["99*Sweet"]}, 400, "a weight is above 20"),
        ({"styles": ["description: " + "so " * 300]}, 400, "more than 500 characters"),
        ({"model": "rum"}, 404, "did you mean run?"),
        ({"model": 3}, 400, "model must be a text"),
    ],
)
def test_a_request_that_is_refused(
    server: Server, root: Path, image: str, change: dict[str, Any], status: int, message: str
) -> None:
    file = str(root / "images" / "0.png")
    change = {name: value.replace("FILE", file) if isinstance(value, str) else value for name, value in change.items()}
    found = ask(server, "/v1/captions", {"image": image, "styles": ["Sweet"]} | change)
    assert (found[0], message in found[1]["error"]["message"]) == (status, True), found


def test_bodies_that_are_no_request(server: Server) -> None:
    for body, message in ((b"{", "no valid JSON"), (b"[]", "must be a JSON object"), (b"\xff", "no valid JSON")):
        status, found = ask(server, "/v1/captions", body)
        assert (status, message in found["error"]["message"]) == (400, True)
    assert ask(server, "/v1/captions", b"{}", headers={"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "/v1/captions", b"", headers={"Content-Length": str(10**9)})[0] == 413
    assert ask(server, "/v1/captions", b"", headers={"Content-Length": "-1"})[0] == 411
    assert ask(server, "/v1/captions")[0] == 405
    assert ask(server, "/etc/passwd")[0] == 404
    assert ask(server, "/page/../api.py")[0] == 404
    assert ask(server, "/v1/answers", {"image": "x", "question": "?"})[0] == 400


def test_pages_of_others_cannot_ask(server: Server, image: str) -> None:
    body = {"image": image, "styles": ["Sweet"]}
    port = server.server_address[1]
    assert ask(server, "/v1/captions", body, headers={"Host": f"evil.invalid:{port}"})[0] == 403
    assert ask(server, "/v1/captions", body, headers={"Origin": "http://evil.invalid"})[0] == 403
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert ask(server, "/v1/captions", body, headers=own)[0] == 200


def test_the_lists_and_the_numbers(server: Server, image: str) -> None:
    assert ask(server, "/health") == (200, {"status": "ok", "models": ["run"]})
    models = ask(server, "/v1/models")[1]["data"]
    assert [model["id"] for model in models] == ["run", *(f"run/{style}" for style in STYLES)]
    assert models[0]["styles"] == list(STYLES)
    ask(server, "/v1/captions", {"image": image})
    text = ask(server, "/metrics")[1]
    assert 'stylecap_requests_total{path="/v1/captions",status="200"}' in text
    assert 'stylecap_waiting{model="run"} 0' in text
    assert "passwd" not in text


def test_a_key_opens_all_but_the_page(root: Path, tmp_path: Path, image: str) -> None:
    (tmp_path / "key").write_text("letmein\n")
    with serving(root / "run", key_file=str(tmp_path / "key")) as server:
        body = {"image": image, "styles": ["Sweet"]}
        assert ask(server, "/")[0] == ask(server, "/health")[0] == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer schlüssel"}):
            assert ask(server, "/v1/captions", body, headers=headers)[0] == 401
        assert ask(server, "/v1/models")[0] == ask(server, "/metrics")[0] == 401
        assert ask(server, "/v1/captions", body, headers={"Authorization": "Bearer letmein"})[0] == 200


# --- load, time, and clients that leave


@pytest.fixture
def held(root: Path) -> Iterator[tuple[Server, threading.Event, threading.Event]]:
    """A server whose passes wait for the second event; the first says that one has begun."""
    with serving(root / "run", limit=2, seconds=3) as server:
        begun, go = threading.Event(), threading.Event()
        batcher = server.api.batchers["run"]
        run = batcher.run

        def wait(asked: Any) -> Any:
            begun.set()
            assert go.wait(SECONDS)
            return run(asked)

        batcher.run = wait
        yield server, begun, go
        go.set()


def test_a_full_queue_is_429_and_time_runs_out_with_504(held: Any, image: str) -> None:
    server, begun, go = held
    body = {"image": image, "styles": ["Sweet"]}
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, server, "/v1/captions", body)
        assert begun.wait(SECONDS)
        waiting = [pool.submit(ask, server, "/v1/captions", body) for _ in range(2)]
        end = time.monotonic() + SECONDS
        while server.api.batchers["run"].waiting < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert ask(server, "/v1/captions", body)[0] == 429
        assert {one.result(SECONDS)[0] for one in [first, *waiting]} == {504}
    go.set()
    assert ask(server, "/v1/captions", body)[0] == 200


def test_a_client_that_leaves_is_not_worked_for(held: Any, image: str) -> None:
    server, begun, go = held
    body = {"image": image, "styles": ["Sweet"]}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server, "/v1/captions", body)
        assert begun.wait(SECONDS)
        content = json.dumps(body).encode()
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as connection:
            connection.sendall(head.encode() + content)
            end = time.monotonic() + SECONDS
            while not server.api.batchers["run"].waiting and time.monotonic() < end:
                time.sleep(0.01)
        time.sleep(0.6)  # the handler looks four times a second
        go.set()
        assert first.result(SECONDS)[0] == 200
    assert server.api.batchers["run"].answered == 1


def test_a_fault_of_ours_is_500_and_the_server_lives(held: Any, image: str, caplog: pytest.LogCaptureFixture) -> None:
    server, _, go = held
    go.set()
    batcher = server.api.batchers["run"]
    run, batcher.run = batcher.run, lambda asked: 1 / 0
    status, found = ask(server, "/v1/captions", {"image": image})
    assert (status, "log says why" in found["error"]["message"]) == (500, True)
    assert "ZeroDivisionError" in caplog.text
    batcher.run = run
    assert ask(server, "/v1/captions", {"image": image})[0] == 200


# --- folders


def test_folders_that_cannot_be_served(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        open_systems([str(tmp_path)])
    with pytest.raises(ValueError, match="called 'run' already"):
        open_systems([str(root / "run"), str(root / "run")])
    assert finetune.main(["serve", str(tmp_path)]) == 2
    assert "holds no model of this project" in capsys.readouterr().err
    (tmp_path / "key").write_text("two words\n")
    assert finetune.main(["serve", str(root / "run"), "--api-key-file", str(tmp_path / "key")]) == 2
    with serving(root / "run") as server:
        port = str(server.server_address[1])
        assert finetune.main(["serve", str(root / "run"), "--port", port]) == 2
        assert "give another --port" in capsys.readouterr().err
