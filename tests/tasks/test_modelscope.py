"""What ModelScope does with a directory that we wrote: without the network, and without waiting for it."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from modelscope.metainfo import Tasks
from modelscope.models.base import Model
from modelscope.outputs import OutputKeys
from modelscope.pipelines import pipeline
from PIL import Image

from data.samples import Sample
from models.ofa.generation import beam_search
from preprocessors import OfaStylishImageCaptioningPreprocessor
from preprocessors.collate import collate
from tasks.captioning.captioner import Captioner
from tasks.captioning.modelscope import StylishCaptioningPipeline, StylishOFA
from tests.conftest import ROOT
from tests.models.nano import nano_model, nano_preprocessor, noisy_picture
from tests.models.saved import GENERATION, save

SECONDS = 5  # the hub's retries take four times as long


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with `run/best`, a checkpoint."""
    root = tmp_path_factory.mktemp("modelscope")
    preprocessor = nano_preprocessor()
    save(root / "run" / "best", nano_model(len(preprocessor.tokenizer)), preprocessor)
    return root


@pytest.fixture(autouse=True)
def no_connection(monkeypatch, folder):
    """Nothing is connected to, and relative paths are those of the folder."""
    tried = []

    def refuse(_, address):
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(folder)
    yield
    assert not tried


@pytest.fixture
def requests(tmp_path) -> list[dict]:
    styles = ["Sweet", "cynical", "Humorous"]
    return [{"image": noisy_picture(tmp_path / f"{k}.png", k), "style": style} for k, style in enumerate(styles)]


def expected(folder: Path, requests: list[dict], **settings) -> list[str]:
    preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(folder / "run/best")
    model = StylishOFA(str(folder / "run/best")).model
    texts = []
    for request in requests:
        batch = collate([preprocessor(request)])
        rows = (batch["input_ids"], batch["patch_images"], batch["patch_masks"])
        tokens = beam_search(model, *rows, **(GENERATION | settings))[0][0].tokens.tolist()
        texts.append(" ".join(str(preprocessor.tokenizer.decode(tokens, skip_special_tokens=True)).split()))
    return texts


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_the_model_loads_from_a_directory(folder, absolute):
    # A relative path with one slash has the form of a hub id: ModelScope would ask the hub about it first.
    start = time.monotonic()
    model = Model.from_pretrained(str(folder / "run/best") if absolute else "run/best")

    assert time.monotonic() - start < SECONDS
    assert isinstance(model, StylishOFA)
    reference = nano_model(model.model.config.vocab_size).state_dict()
    assert all(torch.equal(value, reference[name]) for name, value in model.model.state_dict().items())


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_the_pipeline_needs_no_network(folder, requests, absolute):
    start = time.monotonic()
    directory = str(folder / "run/best") if absolute else "run/best"
    pipe = pipeline(Tasks.image_captioning, model=directory)

    assert time.monotonic() - start < SECONDS
    assert isinstance(pipe, StylishCaptioningPipeline)
    assert pipe(requests[0]) == {OutputKeys.CAPTION: expected(folder, requests[:1])}


def test_lists_and_batches_give_what_single_requests_give(folder, requests):
    preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir("run/best")
    pipe = pipeline(Tasks.image_captioning, model="run/best", preprocessor=preprocessor)
    texts = expected(folder, requests)
    assert len(set(texts)) > 1

    assert [result[OutputKeys.CAPTION] for result in pipe(requests)] == [[text] for text in texts]
    for batch_size in (1, 2, 3):
        results = pipe(requests, batch_size=batch_size)
        assert [result[OutputKeys.CAPTION] for result in results] == [[text] for text in texts]


def test_a_call_can_change_the_search(folder, requests):
    pipe = pipeline(Tasks.image_captioning, model="run/best")
    assert pipe(requests[0], beam_size=1, max_len_b=3)[OutputKeys.CAPTION] == expected(
        folder, requests[:1], beam_size=1, max_len_b=3
    )
    with pytest.raises(ValueError, match="unknown setting beams: choose among beam_size"):
        pipe(requests[0], beams=1)


def test_pictures_in_memory_are_captioned(folder, requests):
    pipe = pipeline(Tasks.image_captioning, model="run/best")
    with Image.open(requests[0]["image"]) as picture:
        assert pipe(requests[0] | {"image": picture}) == pipe(requests[0])


def test_a_model_object_makes_a_pipeline(folder, requests):
    pipe = pipeline(Tasks.image_captioning, model=Model.from_pretrained("run/best"))
    assert pipe(requests[0]) == {OutputKeys.CAPTION: expected(folder, requests[:1])}


def test_an_unknown_style_is_refused(folder, requests):
    pipe = pipeline(Tasks.image_captioning, model="run/best")
    with pytest.raises(ValueError, match="unknown style 'Swet': did you mean Sweet"):
        pipe(requests[0] | {"style": "Swet"})


def test_importing_the_module_is_enough(folder):
    """In a process of its own, whose proxies lead nowhere (tests/conftest.py watches them)."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tasks.captioning.modelscope\n"
        "from modelscope.pipelines import pipeline\n"
        "assert pipeline('image-captioning', model='run/best').model.model.training is False"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, timeout=120, capture_output=True)


def test_guidance_comes_with_the_checkpoint(tmp_path, requests):
    preprocessor = nano_preprocessor()
    model = nano_model(len(preprocessor.tokenizer))
    save(tmp_path / "best", model, preprocessor, generation=GENERATION | {"style_guidance": {"Sweet": 3.0}})
    found = [
        pipeline(Tasks.image_captioning, model=str(tmp_path / "best"))(one)[OutputKeys.CAPTION] for one in requests
    ]
    captioner = Captioner(model, preprocessor)
    samples = [Sample(one["image"], "", one["style"], "", ()) for one in requests]
    settings = {"batch_size": 8, "progress": False, **GENERATION}
    assert found == [[text] for text in captioner.caption(samples, style_guidance={"Sweet": 3.0}, **settings)]
    plain = captioner.caption(samples, **settings)
    assert [text for (text,) in found[1:]] == plain[1:]
    assert found[0] != [plain[0]]
