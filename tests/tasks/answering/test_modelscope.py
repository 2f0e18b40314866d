"""What ModelScope does with a directory that training wrote: without the network, and without waiting for it."""

import time
from pathlib import Path

import numpy as np
import pytest
from modelscope.models.base import Model
from modelscope.pipelines import pipeline
from modelscope.utils.constant import Tasks
from PIL import Image

import finetune
from data.features import Regions, grid_boxes, new_store
from models.towers.lite0 import PACKAGE
from tasks.answering.modelscope import AnswererModel
from tests.tasks.answering.nano import drawn_files, nano

SECONDS = 10  # the hub's retries take twice as long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one update over grid features that a tower is said to have made."""
    root = tmp_path_factory.mktemp("modelscope")
    data = drawn_files(root)
    rng = np.random.default_rng(0)
    with new_store(root / "grids", dtype="float32", grid=(2, 2)) as writer:
        for file in sorted(Path(data["images"]).iterdir()):
            writer.add(Regions(file.stem, rng.random((4, 112), dtype=np.float32), size=(96, 96), grid=(2, 2)), "test")
        writer.finish("lite0@32", [], 16)
    conf = nano(root, data=data | {"features": str(root / "grids")}, train={"max_steps": 1})
    assert finetune.main(["--conf", str(conf), "train"]) == 0
    return root


def test_the_model_loads_from_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "run" / "checkpoints")
    start = time.monotonic()
    model = Model.from_pretrained("best")
    assert isinstance(model, AnswererModel)
    assert time.monotonic() - start < SECONDS


def test_the_pipeline_answers_from_features(folder: Path) -> None:
    answer = pipeline(Tasks.visual_question_answering, model=str(folder / "run" / "checkpoints" / "best"))
    features = np.random.default_rng(1).random((4, 112), dtype=np.float32)
    asked = {"text": "what color is the ball?", "features": features}
    found = answer(asked)
    assert found["text"] == found["labels"][0]
    assert len(found["labels"]) == len(found["scores"]) == 5
    assert found["scores"] == sorted(found["scores"], reverse=True)
    boxed = answer(asked | {"boxes": grid_boxes(2, 2)})
    assert boxed["scores"] == pytest.approx(found["scores"], abs=1e-5)
    batch = answer([asked, asked], batch_size=2)
    assert [one["text"] for one in batch] == [found["text"]] * 2
    assert batch[0]["scores"] == pytest.approx(found["scores"], abs=1e-5)
    for wrong, message in (
        ({"text": "x"}, "image"),
        ({"features": features}, "text"),
        (asked | {"features": features[:3]}, "square grid"),
        (asked | {"features": features[:, :7]}, "7 wide"),
    ):
        with pytest.raises(ValueError, match=message):
            answer(wrong)


def test_the_pipeline_and_inference_look_at_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(PACKAGE)
    picture = folder / "new.png"
    Image.fromarray(np.random.default_rng(2).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(picture)
    answer = pipeline(Tasks.visual_question_answering, model=str(folder / "run" / "checkpoints" / "best"))
    found = answer({"image": str(picture), "text": "is there a red ball?"})
    arguments = ["--image", str(picture), "--question", "is there a red ball?"]
    assert finetune.main(["--conf", str(folder / "conf.json"), "inference", *arguments]) == 0
    assert capsys.readouterr().out == f"{picture}\tis there a red ball?\t{found['text']}\n"
