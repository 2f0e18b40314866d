"""A captioner as a program uses it: a directory, files and pictures in; captions out."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer

from data.samples import Sample
from models.ofa.checkpoints import load_model
from models.ofa.modeling import OFAModel
from models.ofa.tokenization import OFATokenizer
from tasks.captioning.captioner import Captioner
from tests.models.nano import STYLES
from tests.nano_run import SEARCH, nano_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    nano_run(root)
    return root


@pytest.fixture(scope="module")
def directory(root: Path) -> Path:
    return root / "run" / "checkpoints" / "best"


@pytest.fixture(scope="module")
def files(root: Path) -> list[str]:
    return [str(root / "images" / f"{number}.png") for number in range(3)]


def test_files_are_captioned_in_the_styles_asked_for(directory: Path, files: list[str]) -> None:
    captioner = Captioner.from_directory(directory)
    found = captioner.caption([Path(files[0]), files[1]], styles=["humorous", "Sweet"])
    samples = [Sample(file, "", style, "", ()) for file in files[:2] for style in ("Humorous", "Sweet")]
    texts = captioner.caption(samples, batch_size=4, **SEARCH)
    assert found == [{"Humorous": texts[0], "Sweet": texts[1]}, {"Humorous": texts[2], "Sweet": texts[3]}]


def test_all_styles_and_the_settings_of_the_directory_are_the_default(directory: Path, files: list[str]) -> None:
    captioner = Captioner.from_directory(directory)
    (found,) = captioner.caption(files[:1])
    assert tuple(found) == STYLES
    assert captioner.defaults == {"batch_size": 16, **SEARCH}
    greedy = captioner.caption(files, styles=["Sweet"], beam_size=1, max_len_b=2)
    samples = [Sample(file, "", "Sweet", "", ()) for file in files]
    settings = SEARCH | {"beam_size": 1, "max_len_b": 2}
    assert [one["Sweet"] for one in greedy] == captioner.caption(samples, batch_size=1, **settings)


def test_pictures_in_memory_have_the_captions_of_their_files_and_all_beams(directory: Path, files: list[str]) -> None:
    captioner = Captioner.from_directory(directory)
    pictures = [Image.open(file) for file in files]
    asked = [(pictures[0], ["Sweet", "Cynical"]), (pictures[1], ["Humorous"]), (pictures[2], ["Sweet", "Sweet"])]
    found = captioner.caption_pictures(asked)
    assert [len(styles) for styles in found] == [2, 1, 2]
    of_files = captioner.caption(files)
    for (_, styles), beams, expected in zip(asked, found, of_files, strict=True):
        assert [written[0].text for written in beams] == [expected[style] for style in styles]
    for written in (one for styles in found for one in styles):
        assert 1 <= len(written) <= SEARCH["beam_size"]
        assert [one.score for one in written] == sorted((one.score for one in written), reverse=True)
    assert len(captioner.caption_pictures(asked[:1], {"beam_size": 3})[0][0]) == 3


@pytest.mark.parametrize(
    ("images", "styles", "message"),
    [
        ("a.jpg", None, r"images is one text .*give a list, \['a.jpg'\]"),
        (["a.jpg"], "Sweet", r"styles is one text .*\['Sweet'\]"),
        (["gone.jpg"], ["Swet"], "did you mean Sweet"),
        (["gone.jpg"], ["Sweet"], "gone.jpg does not exist"),
    ],
)
def test_what_is_refused(directory: Path, images, styles, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Captioner.from_directory(directory).caption(images, styles=styles)


def test_transformers_loads_the_directory(directory: Path) -> None:
    expected = load_model(directory).state_dict()
    for model in (OFAModel.from_pretrained(str(directory)), AutoModel.from_pretrained(str(directory))):
        assert isinstance(model, OFAModel)
        assert not model.training
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert isinstance(AutoTokenizer.from_pretrained(str(directory)), OFATokenizer)


def test_a_directory_without_its_settings_is_named(directory: Path, tmp_path: Path) -> None:
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "configuration.json").read_text())
    del content["preprocessor"]["prompt"]
    (tmp_path / "configuration.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"configuration.json: preprocessor lacks prompt"):
        Captioner.from_directory(tmp_path)
