"""Adapters of one model: requests name one, and share passes."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from data.samples import Sample
from finetune import main
from serving.asked import caption_ask
from serving.systems import AdaptedCaptions, open_systems
from tasks.captioning.captioner import Captioner
from tasks.captioning.opening import open_captioner
from tests.models.nano import STYLES, noisy_picture
from tests.nano_run import SEARCH, nano_run
from tests.serving.served import ask, data_url, serving
from tests.tasks.test_adapted import ADAPTERS
from tests.tasks.test_adapted import folders as folders

pytestmark = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs EXTRAS=lora")
NAMED = ("moods", "eras", "short")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return Path(noisy_picture(tmp_path / "a.png", 1))


def alone(folder: Path, picture: Path, style: str) -> str:
    return Captioner.from_directory(folder, device="cpu").caption([picture], [style])[0][style]


def test_requests_of_different_adapters_share_a_pass(folders, picture):
    base = folders["moods"].parent / "base"
    named = {name: str(folders[name]) for name in NAMED}
    system = open_systems([str(base)], device="cpu", adapters=named)["base"]
    assert isinstance(system, AdaptedCaptions)
    assert system.styles == (*STYLES, *(f"{name}/{style}" for name in NAMED for style in ADAPTERS[name][0]))
    asks = [
        caption_ask(system, {"adapter": "eras"}, data_url(picture), ["new"]),
        caption_ask(system, {}, data_url(picture), ["short/Terse", "Sweet", "eras/Old"]),
        caption_ask(system, {"adapter": "moods"}, data_url(picture), []),
    ]
    assert len({one.kind for one in asks}) == 1
    passes = []
    search = system.captioner._search

    def counted(*args: Any) -> Any:
        passes.append(args)
        return search(*args)

    system.captioner._search = counted
    eras, mixed, moods = system.run(asks)
    assert len(passes) == 1
    assert eras["eras/New"][0].text == alone(folders["eras"], picture, "New")
    assert mixed["short/Terse"][0].text == alone(folders["short"], picture, "Terse")
    assert mixed["Sweet"][0].text == alone(base, picture, "Sweet")
    assert [beams[0].text for beams in moods.values()] == [
        alone(folders["moods"], picture, style) for style in ADAPTERS["moods"][0]
    ]


def test_over_http(folders, picture):
    base = folders["moods"].parent / "base"
    url, style = data_url(picture), "New"
    with serving(base, adapters={name: str(folders[name]) for name in NAMED}) as server:
        status, found = ask(server, "/v1/captions", {"image": url, "styles": [style], "adapter": "eras"})
        assert (status, found["captions"][0]["style"]) == (200, "eras/New")
        assert found["captions"][0]["caption"] == alone(folders["eras"], picture, style)
        content = [{"type": "image_url", "image_url": {"url": url}}]
        chat = {"messages": [{"role": "user", "content": content}]}
        texts = []
        for body in ({"model": "base/eras/New"}, {"model": "base/New", "adapter": "eras"}):
            status, answer = ask(server, "/v1/chat/completions", chat | body)
            texts.append(answer["choices"][0]["message"]["content"])
        assert texts == [found["captions"][0]["caption"]] * 2
        refused: list[tuple[str, dict[str, Any], str]] = [
            ("/v1/captions", {"adapter": "moon"}, "there are moods, eras, short"),
            ("/v1/captions", {"adapter": 1}, "adapter must be a text"),
            ("/v1/captions", {"adapter": "eras", "styles": ["Nw"]}, "did you mean New"),
            ("/v1/captions", {"styles": ["eras/New"], "intensity": 2}, "intensity does not go with adapters"),
            ("/v1/captions", {"styles": ["eras/New"], "style_guidance": 2}, "guidance does not go with adapters"),
            ("/v1/attention", {"style": "eras/New", "caption": "a cat"}, "not shown with adapters"),
        ]
        for path, body, message in refused:
            status, answer = ask(server, path, {"image": url} | body)
            assert (status, message in answer["error"]["message"]) == (400, True), answer
    with serving(base) as server:
        status, answer = ask(server, "/v1/captions", {"image": url, "adapter": "eras"})
        assert (status, "has no adapters" in answer["error"]["message"]) == (400, True)


def test_captions_of_many_pictures(folders, picture, tmp_path, capsys):
    base, out = str(folders["moods"].parent / "base"), tmp_path / "out.jsonl"
    given = [f"--adapter={name}={folders[name]}" for name in NAMED]
    command = ["caption", base, str(picture), "--device", "cpu", *given]
    assert main([*command, "--use", "eras", "--style", "old", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["captions"] == {"eras/Old": alone(folders["eras"], picture, "Old")}
    other = tmp_path / "other.jsonl"
    assert main([*command, "--style", "Sweet,short/Terse", "--out", str(other)]) == 0
    assert list(json.loads(other.read_text())["captions"]) == ["Sweet", "short/Terse"]
    for rest, message in (
        (["--use", "moon", *given], "there are moods, eras, short"),
        (["--use", "moon"], "--adapter moon=DIR"),
        ([f"--adapter=moon={tmp_path}"], "holds none"),
        ([f"--adapter=a/b={folders['eras']}"], "slash"),
    ):
        assert main(["caption", base, str(picture), "--device", "cpu", "--out", str(out), *rest]) == 2
        assert message in capsys.readouterr().err


def test_adapters_are_of_one_whole_model(folders, tmp_path):
    base = folders["moods"].parent / "base"
    with pytest.raises(ValueError, match="adapters are of one model"):
        open_systems([str(base), str(folders["eras"])], device="cpu", adapters={"moods": str(folders["moods"])})
    with pytest.raises(ValueError, match="is an adapter itself"):
        open_systems([str(folders["eras"])], device="cpu", adapters={"moods": str(folders["moods"])})


def test_inference_of_a_configuration(folders, tmp_path, capsys):
    document = nano_run(tmp_path).to_dict()
    document["eval"] |= SEARCH
    (tmp_path / "conf.json").write_text(json.dumps(document))
    base, picture = str(folders["moods"].parent / "base"), str(tmp_path / "images" / "0.png")
    command = ["--conf", str(tmp_path / "conf.json"), "inference", "--checkpoint", base]
    command += [f"--adapter=eras={folders['eras']}", "--adapter", f"short={folders['short']}"]
    assert main([*command, "--image", picture, "--style", "Sweet,eras/new,short/Terse"]) == 0
    lines = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["Sweet", alone(Path(base), Path(picture), "Sweet")],
        ["eras/New", alone(folders["eras"], Path(picture), "New")],
        ["short/Terse", alone(folders["short"], Path(picture), "Terse")],
    ]
    (tmp_path / "asked.json").write_text(json.dumps([{"image": picture, "style": "old"}]))
    assert main([*command, "--json", str(tmp_path / "asked.json"), "--use", "eras"]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "eras/Old"
    out = tmp_path / "lines.jsonl"
    assert main([*command, "--image", picture, "--use", "eras", "--out", str(out)]) == 0
    assert list(json.loads(out.read_text())["captions"]) == ["eras/Old", "eras/New"]
    capsys.readouterr()
    for rest, message in (
        (["--style", "eras/Nw"], "did you mean New"),
        (["--use", "moon"], "there are eras, short"),
        (["--style", "eras/New", "--guidance", "1"], "do not go with adapters"),
    ):
        assert main([*command, "--image", picture, *rest]) == 2
        assert message in capsys.readouterr().err


def test_a_broken_picture_is_a_row_with_its_error(folders, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    whole = noisy_picture(tmp_path / "a.png", 1)
    captioner = open_captioner(folders["moods"].parent / "base", {"eras": str(folders["eras"])}, device="cpu")
    asked = [Sample(image, "", "eras/New", "", ()) for image in (str(tmp_path / "broken.png"), whole)]
    broken, found = captioner.write(asked, batch_size=4, strict=False)
    assert broken.fault is not None
    assert (found.fault, found.text) == (None, alone(folders["eras"], Path(whole), "New"))
    with pytest.raises(ValueError, match="broken.png"):
        captioner.write(asked, batch_size=4)
