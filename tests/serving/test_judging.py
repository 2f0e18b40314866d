"""What the judges of style that a run left say of a served model's captions, and the attention over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.run_folder import RunFolder
from metrics.style_classifier import StyleClassifier
from models.ofa.styles import StyleMap
from rewards.kept_classifier import save
from serving.judging import Judges, find_judges
from serving.sharing import export_run
from serving.web import Server
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES
from tests.nano_run import CAPTIONS, nano_run
from tests.serving.served import ask, data_url, serving

KNOWN = StyleMap.from_styles(STYLES)


@pytest.fixture(scope="module")
def judge() -> StyleClassifier:
    texts = [text for style in STYLES for text in CAPTIONS[style]]
    return StyleClassifier.fit(texts, [style.lower() for style in STYLES for _ in range(2)], features="characters")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, judge: StyleClassifier) -> Path:
    root = tmp_path_factory.mktemp("judged")
    nano_run(root)
    save(judge, RunFolder(root / "run").style_evaluator)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "run") as server:
        yield server


def test_a_score_is_the_probability_of_the_asked_style(judge: StyleClassifier) -> None:
    judges = Judges({"characters": judge}, KNOWN)
    caption = CAPTIONS["Sweet"][0]
    shares = dict(zip(judge.styles, np.exp(judge.log_probabilities([caption])[0]), strict=True))
    assert judges.of("Sweet", caption) == {
        "characters_score": pytest.approx(shares["sweet"], abs=1e-4),
        "characters_style": "sweet",
    }
    assert judges.of("Cynical", caption)["characters_score"] == pytest.approx(shares["cynical"], abs=1e-4)
    both = judges.of("0.7*Sweet + 0.3*Humorous - 1*Cynical", caption)["characters_score"]
    assert both == pytest.approx(shares["sweet"] + shares["humorous"], abs=1e-4)
    assert judges.of("description: dark", caption) == judges.of("Sweet", " ") == {}
    assert Judges({}, KNOWN).of("Sweet", caption) == {}


def test_few_columns_are_as_good_as_all(judge: StyleClassifier) -> None:
    texts = [CAPTIONS["Cynical"][0], "", "words that nobody used 5"]
    whole = np.asarray(judge.vectors(texts).toarray() @ judge.weights.T.astype(np.float64)) + judge.bias
    expected = whole - np.log(np.exp(whole).sum(1, keepdims=True))
    np.testing.assert_allclose(judge.log_probabilities(texts), expected, atol=1e-9)


@pytest.mark.parametrize("place", ["run", "run/checkpoints/best", "exported"])
def test_the_judge_is_found_beside_the_model(root: Path, place: str) -> None:
    if place == "exported":
        export_run(str(root / "run"), str(root / place))
    body = {"image": data_url(root / "images" / "0.png"), "styles": ["Sweet"]}
    with serving(root / place) as server:
        (model, *_) = ask(server, "/v1/models")[1]["data"]
        assert model["judges"] == ["characters"]
        row = ask(server, "/v1/captions", body | {"judge": True})[1]["captions"][0]
        assert 0 <= row["characters_score"] <= 1
        assert row["characters_style"] in [style.lower() for style in STYLES]
        assert "characters_score" not in ask(server, "/v1/captions", body)[1]["captions"][0]


def test_a_judge_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RunFolder(tmp_path).style_evaluator.write_bytes(b"no judge")
    assert find_judges([tmp_path], KNOWN).by_name == {}
    assert "captions are shown without its score" in caplog.text
    assert find_judges([tmp_path / "none"], KNOWN).by_name == {}


def test_attention_over_http_is_the_captioner_s(server: Server, root: Path) -> None:
    picture = root / "images" / "3.png"
    body = {"image": data_url(picture), "style": "sweet", "caption": "a red cat"}
    status, found = ask(server, "/v1/attention", body | {"intensity": 1.5})
    assert status == 200
    expected = Captioner.from_directory(root / "run" / "checkpoints" / "best", device="cpu").looked_at(
        picture, "1.5*Sweet", "a red cat"
    )
    assert [one["word"] for one in found["words"]] == ["a", "red", "cat"]
    for one, known in zip(found["words"], expected, strict=True):
        assert one["share"] == pytest.approx(known.share, abs=1e-3)
        np.testing.assert_allclose(one["cells"], known.cells / known.cells.max(), atol=2e-3)
    assert found["area"] == [0, 0, 1, 1]
    assert ask(server, "/v1/attention", body | {"model": "run/Sweet"})[0] == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": None}, "style must be the name of one style"),
        ({"style": "Swet"}, "did you mean Sweet"),
        ({"caption": ""}, "caption must be a text"),
        ({"caption": "?"}, "has no words"),
        ({"caption": "x" * 1001}, "caption must be a text"),
        ({"image": "a.png"}, "must be a data: URL"),
    ],
)
def test_attention_that_is_refused(server: Server, root: Path, change: dict[str, object], message: str) -> None:
    body = {"image": data_url(root / "images" / "0.png"), "style": "Sweet", "caption": "a cat"}
    status, found = ask(server, "/v1/attention", body | change)
    assert (status, message in found["error"]["message"]) == (400, True), found
