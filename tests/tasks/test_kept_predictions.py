"""`eval` writes what it predicted before it scores it, and takes it up again where nothing else would come out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from config import Config
from tasks.captioning.captioner import Captioner
from tasks.evaluating import find_checkpoint, run_evaluation
from tests.nano_run import nano_run


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions were asked for, call by call; those in many styles left out."""
    calls: list[int] = []
    write = Captioner.write

    def watched(self: Captioner, samples: Any, **settings: Any) -> Any:
        calls.append(len(samples))
        return write(self, samples, **settings)

    monkeypatch.setattr(Captioner, "write", watched)
    return calls


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def test_captions_outlive_a_scorer_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]):
    config = nano_run(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("tasks.captioning.task.judge", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_evaluation(config)
    assert written == [6]
    report = run_evaluation(config)
    assert written == [6]
    assert report["n_captions"] == 6
    (tmp_path / "run" / "cache" / "predictions.val.json").unlink()
    again = run_evaluation(config)
    assert written == [6, 6]
    assert report | {"seconds": 0} == again | {"seconds": 0}


def test_what_only_scoring_follows_asks_for_no_new_captions(tmp_path: Path, written: list[int]):
    config = nano_run(tmp_path)
    run_evaluation(config)
    run_evaluation(changed(config, "eval", bootstrap=10, batch_size=1))
    assert written == [6]


@pytest.mark.parametrize("change", ["decoding", "weights", "references", "image", "split", "control", "style list"])
def test_anything_else_asks_for_new_ones(change: str, tmp_path: Path, written: list[int]):
    config = nano_run(tmp_path)
    run_evaluation(config)
    arguments: dict[str, Any] = {}
    if change == "decoding":
        config = changed(config, "eval", beam_size=1)
    elif change == "weights":
        file = tmp_path / "run" / "checkpoints" / "best" / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif change == "references":
        file = tmp_path / "val.json"
        file.write_text(file.read_text().replace("lovely", "lively"))
    elif change == "image":
        file = tmp_path / "images" / "4.png"
        file.write_bytes(file.read_bytes() + b"x")
    elif change == "style list":
        file = tmp_path / "styles.txt"
        file.write_text("\n".join(reversed(file.read_text().split("\n"))))
    else:
        arguments = {"split": "train"} if change == "split" else {"control": "blank-image"}
    run_evaluation(config, **arguments)
    assert len(written) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1}', '{"key": {}, "predictions": {}}'])
def test_a_broken_file_is_of_no_use(content: str, tmp_path: Path, written: list[int]):
    config = nano_run(tmp_path)
    file = tmp_path / "run" / "cache" / "predictions.val.json"
    file.parent.mkdir()
    file.write_text(content)
    run_evaluation(config)
    assert written == [6]
    assert json.loads(file.read_text())["key"]["split"] == "val"


def test_a_broken_image_is_remembered_as_such(tmp_path: Path, written: list[int]):
    config = nano_run(tmp_path)
    (tmp_path / "images" / "5.png").write_bytes(b"no picture")
    first = run_evaluation(config)
    second = run_evaluation(config)
    assert written == [6]
    assert first["unreadable_images"] == second["unreadable_images"] == 1


def test_a_runs_folder_means_its_best_checkpoint(tmp_path: Path):
    nano_run(tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "best").rename(checkpoints / "step-000003")
    for name, step in (("best", 3), ("last", 9)):
        (checkpoints / f"step-{step:06d}").mkdir(exist_ok=True)
        (checkpoints / name).symlink_to(f"step-{step:06d}")
    for asked in (str(tmp_path / "run"), str(tmp_path / "run") + "/", str(checkpoints / "step-000003")):
        assert find_checkpoint("elsewhere", asked).resolve() == (checkpoints / "step-000003").resolve()
    (checkpoints / "best").unlink()
    assert find_checkpoint("elsewhere", str(tmp_path / "run")).name == "step-000009"
