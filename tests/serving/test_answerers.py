"""An exported model that answers questions: its card, and that it answers elsewhere."""

import json
from pathlib import Path

import pytest
from huggingface_hub import metadata_load

import finetune
from serving.sharing import verify
from tests.tasks.answering.nano import nano


def test_a_run_is_exported_imported_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = str(nano(tmp_path, train={"max_steps": 1}))
    for command in ("train", "eval"):
        assert finetune.main(["--conf", conf, command]) == 0
    scores = json.loads(capsys.readouterr().out)
    archive, back = str(tmp_path / "model.tar.gz"), tmp_path / "back"
    assert finetune.main(["export", str(tmp_path / "run"), "--out", archive]) == 0
    assert finetune.main(["import", archive, "--out", str(back)]) == 0
    verify(back)
    header = metadata_load(back / "README.md")
    assert header is not None
    assert header["pipeline_tag"] == "visual-question-answering"
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == round(100 * scores["accuracy"], 2)
    capsys.readouterr()
    assert finetune.main(["--conf", conf, "eval", "--checkpoint", str(back)]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == scores["accuracy"]
