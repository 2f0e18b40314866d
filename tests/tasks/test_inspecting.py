"""From a folder of photos and a spreadsheet to captions: `data inspect` and the commands after it."""

import csv
import json
from pathlib import Path

import pytest

import finetune
from config import parse_config
from tasks.captioning.inspecting import inspect
from tests.models.nano import STYLES, noisy_picture
from tests.nano_run import CAPTIONS

MODEL = {"preset": "tiny", "vocabulary": "train"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures and a spreadsheet, whose columns have names of their own language."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "text", "style", "split"])
        for number in range(12):
            noisy_picture(folder / f"{number}.png", number)
            split = "train" if number < 8 else "valid" if number < 10 else "test"
            table.writerows([f"{number}.png", f"{CAPTIONS[style][0]} {number}", style, split] for style in STYLES)
    return folder


def test_a_spreadsheet_becomes_a_model(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf, run = str(tmp_path / "mine.json"), tmp_path / "run"
    assert finetune.main(["data", "inspect", str(photos), "--out", conf, "--folder", str(run)]) == 0
    said = capsys.readouterr().out
    for words in ("caption: column 'text'", "train: 24 captions of 8 images", "val: 6", "test: 6", "Sweet (12)"):
        assert words in said
    document = json.loads(Path(conf).read_text())
    assert document["data"]["columns"] == {
        "image": "file_name",
        "caption": "text",
        "style": "style",
        "split": "split",
    }
    small = ["--set", "train.max_steps=2", "--set", "train.dtype=float32", "--set", "data.num_workers=0"]
    small += ["--set", "eval.bootstrap=0", "--set", "eval.meteor=false", "--set", "eval.spice=false"]
    small += ["--set", "eval.sentence_encoder=null"]
    for command in (["doctor"], ["train"], ["eval"]):
        assert finetune.main(["--conf", conf, *small, *command]) == 0, capsys.readouterr().err
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["CIDEr"] >= 0
    out = str(tmp_path / "model")
    assert finetune.main(["export", str(run), "--out", out]) == 0
    assert (tmp_path / "model" / "style_map.json").exists()


def test_nothing_is_overwritten_and_without_a_file_the_configuration_is_shown(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text("mine")
    assert finetune.main(["data", "inspect", str(photos), "--out", str(tmp_path / "mine.json")]) == 2
    assert (tmp_path / "mine.json").read_text() == "mine"
    capsys.readouterr()
    assert finetune.main(["data", "inspect", str(photos), "--folder", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    document = json.loads(text[text.index("\n{\n") :])
    assert document["data"]["train"] == document["data"]["val"] == str(photos)


def test_folders_of_splits_and_a_table_alone(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "sets" / split).mkdir(parents=True)
        noisy_picture(tmp_path / "sets" / split / "a.png", 1)
        row = {"file_name": "a.png", "caption": "a dog", "tone": "Dry"}
        (tmp_path / "sets" / split / "metadata.jsonl").write_text(json.dumps(row))
    seen = inspect(str(tmp_path / "sets"), str(tmp_path / "run"))
    assert seen.data["val"] == str(tmp_path / "sets" / "validation")
    assert list(seen.splits) == ["train", "val"]
    assert seen.data["columns"]["style"] == "tone"
    alone = inspect(str(tmp_path / "sets" / "train"), str(tmp_path / "run"))
    assert list(alone.splits) == ["train"]
    assert any("nothing is left for val" in note for note in alone.notes)
    said = {"messages": [{"role": "assistant", "content": "a dog"}], "images": ["gone.png"]}
    (tmp_path / "said.jsonl").write_text(json.dumps(said))
    seen = inspect(str(tmp_path / "said.jsonl"), str(tmp_path / "run"))
    assert seen.data["format"] == "messages"
    assert any("1 images of train are not there" in note for note in seen.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "does not exist"),
        ("x.csv", "a,b\n", "the table is empty"),
        ("x.csv", "a,b\n1,2\n", "no column is known as the image"),
    ],
)
def test_what_cannot_be_inspected(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        inspect(str(tmp_path / name), str(tmp_path / "run"))


def test_the_configuration_of_tables(tmp_path: Path) -> None:
    table = {"format": "table", "train": "a.csv", "val": "a.csv", "test": "b.csv"}
    config = parse_config({"model": MODEL, "work_dir": str(tmp_path), "data": table | {"columns": {"image": "foto"}}})
    arguments = config.reader_arguments("train")
    assert (arguments["shared"], arguments["held_out"]) == (["train", "val"], 0.1)
    assert arguments["columns"] == {"image": "foto"}
    assert config.reader_arguments("test")["held_out"] == 0.0
    for wrong in ({"columns": {"picture": "foto"}}, {"columns": {"image": 3}}):
        with pytest.raises(ValueError, match=r"data.columns has '(picture|image)'"):
            parse_config({"model": MODEL, "data": table | wrong})
    with pytest.raises(ValueError, match="data.held_out"):
        parse_config({"model": MODEL, "data": table | {"held_out": 0.9}})
