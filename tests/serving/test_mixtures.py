"""Mixtures of styles and intensities over HTTP: each request gets its own, whatever else is in its pass."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.ofa.saving import save_directory
from serving.asked import caption_ask
from serving.systems import Captions, open_systems
from serving.web import Server
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES, nano_captioner
from tests.nano_run import SEARCH, nano_run
from tests.serving.served import ask, data_url, serving

MIXED = (
    "0.7*Humorous + 0.3*Sweet",
    "0.3*Humorous + 0.7*Sweet",
    "1.5*Humorous",
    "-1*Cynical",
    "2*Sweet - 1*Cynical",
    "description: a red cat",
    "Cynical",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixtures")
    nano_run(root)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "run") as server:
        yield server


@pytest.fixture(scope="module")
def alone(root: Path) -> dict[tuple[int, str], tuple[str, float]]:
    """(picture, style) -> caption and score, each asked for by itself."""
    captioner = Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu")
    found = {}
    for number in range(4):
        for style in (*MIXED, "1.5*Sweet", "0.6*Cynical"):
            (((best, *_),),) = captioner.caption_pictures([(root / "images" / f"{number}.png", [style])])
            found[number, style] = (best.text, best.score)
    return found


def is_own(row: dict[str, Any], expected: tuple[str, float]) -> bool:
    return row["caption"] == expected[0] and row["score"] == pytest.approx(expected[1], abs=1e-3)


def test_mixtures_of_one_pass_are_not_mixed_up(root: Path, alone: dict[tuple[int, str], tuple[str, float]]) -> None:
    (system,) = open_systems([str(root / "run")], device="cpu").values()
    assert isinstance(system, Captions)
    pairs = [(number, style) for number in range(4) for style in MIXED]
    assert len({round(alone[pair][1], 3) for pair in pairs}) > 20  # or nothing could be mixed up
    urls = {number: data_url(root / "images" / f"{number}.png") for number in range(4)}
    found = system.run([caption_ask(system, {}, urls[number], [style]) for number, style in pairs])
    for pair, one in zip(pairs, found, strict=True):
        assert (one[pair[1]][0].text, one[pair[1]][0].score) == (
            alone[pair][0],
            pytest.approx(alone[pair][1], abs=1e-3),
        )
    assert system.captioner.model.encoder.own_embeddings is None  # nothing is left behind
    (plain,) = system.run([caption_ask(system, {}, urls[0], ["Cynical"])])
    assert plain["Cynical"][0].text == alone[0, "Cynical"][0]


def test_clients_that_ask_at_once_for_other_mixtures(
    server: Server, root: Path, alone: dict[tuple[int, str], tuple[str, float]]
) -> None:
    pairs = [(number, style) for style in MIXED for number in range(4)]
    urls = {number: data_url(root / "images" / f"{number}.png") for number in range(4)}
    with ThreadPoolExecutor(14) as pool:
        found = list(pool.map(lambda p: ask(server, "/v1/captions", {"image": urls[p[0]], "styles": [p[1]]}), pairs))
    assert [status for status, _ in found] == [200] * len(pairs)
    assert all(is_own(one["captions"][0], alone[pair]) for pair, (_, one) in zip(pairs, found, strict=True))


def test_intensity_is_of_every_style_and_keeps_its_name(
    server: Server, root: Path, alone: dict[tuple[int, str], tuple[str, float]]
) -> None:
    image = data_url(root / "images" / "1.png")
    body = {"image": image, "styles": ["sweet", "0.4*cynical"], "intensity": 1.5}
    rows = ask(server, "/v1/captions", body)[1]["captions"]
    assert [row["style"] for row in rows] == ["Sweet", "0.4*Cynical"]
    assert is_own(rows[0], alone[1, "1.5*Sweet"])
    assert is_own(rows[1], alone[1, "0.6*Cynical"])
    rows = ask(server, "/v1/captions", {"image": image, "intensity": 0})[1]["captions"]
    assert [row["style"] for row in rows] == list(STYLES)
    assert len({(row["caption"], row["score"]) for row in rows}) == 1  # no style in particular


def test_a_chat_may_ask_for_a_mixture(
    server: Server, root: Path, alone: dict[tuple[int, str], tuple[str, float]]
) -> None:
    parts = [{"type": "image_url", "image_url": {"url": data_url(root / "images" / "2.png")}}]
    chat: dict[str, Any] = {"model": "run", "messages": [{"role": "user", "content": parts}]}
    for more, style in (
        ({"style": MIXED[0]}, MIXED[0]),
        ({"model": f"run/{MIXED[1]}"}, MIXED[1]),
        ({"style": "Sweet", "intensity": 1.5}, "1.5*Sweet"),
    ):
        status, found = ask(server, "/v1/chat/completions", chat | more)
        assert status == 200
        assert found["choices"][0]["message"]["content"] == alone[2, style][0]


def test_a_model_that_reads_styles_as_words_mixes_none(root: Path, tmp_path: Path) -> None:
    captioner = nano_captioner(tokenize_style=False)
    save_directory(
        tmp_path / "words",
        captioner.model,
        captioner.preprocessor.tokenizer,
        style_map=captioner.preprocessor.style_map,
        preprocessor=captioner.preprocessor.settings,
        generation=SEARCH,
        formats=("safetensors",),
    )
    image = data_url(root / "images" / "0.png")
    with serving(tmp_path / "words") as server:
        assert ask(server, "/v1/models")[1]["data"][0]["mixes"] is False
        for change in ({"styles": [MIXED[0]]}, {"styles": ["Sweet"], "intensity": 0.5}):
            status, found = ask(server, "/v1/captions", {"image": image} | change)
            assert (status, "cannot be mixed" in found["error"]["message"]) == (400, True)
        assert ask(server, "/v1/captions", {"image": image, "styles": ["Sweet"], "intensity": 1})[0] == 200
