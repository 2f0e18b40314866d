"""TRAR on files in the forms of VQA v2 and CLEVR: grids in .npy and .npz, several splits at once, one answer a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finetune
from tests.tasks.answering.test_trar import conf_file, run

RNG = np.random.default_rng(5)


def cells(rows: int) -> np.ndarray:
    return RNG.standard_normal((rows, 16)).astype("float32")


def clevr_files(folder: Path) -> dict[str, Any]:
    """Two splits of 16 questions about 8 pictures each, whose features are NUMBER.npz of 3 x 3 cells."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        rows = []
        for number in range(8):
            np.savez(folder / split / f"{number}.npz", x=cells(9))
            for last, question, answer in (("count", "how many?", "2"), ("exist", "is there one?", "yes")):
                picture = {"image_index": number, "image_filename": f"CLEVR_{split}_{number:06d}.png"}
                program = [{"function": "scene"}, {"function": last}]
                rows.append(picture | {"question": question, "answer": answer, "program": program})
        (folder / f"{split}.json").write_text(json.dumps({"questions": rows}))
        naming = f"CLEVR_{split}_{{number:06d}}"
        run("features", "import", folder / split, "--out", folder / f"f_{split}", "--grid", "3x3", "--naming", naming)
    stores = f"{folder}/f_train,{folder}/f_val"
    return {"format": "clevr", **{s: str(folder / f"{s}.json") for s in ("train", "val")}, "features": stores}


def test_clevr_by_family_and_a_line_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = clevr_files(tmp_path) | {"demo_images": 3000}
    network = {"head": "clevr", "pooling": "fc", "binarize": True}
    conf = conf_file(
        tmp_path,
        network=network,
        data=data,
        train={"loss": "cross-entropy", "max_steps": 4, "gradient_accumulation": 2},
    )
    run("--conf", conf, "train")
    capsys.readouterr()
    run("--conf", conf, "eval")
    scores = json.loads(capsys.readouterr().out)
    families = scores["clevr"]
    assert {families["Count"][1], families["Exist"][1]} == {8}
    assert set(scores["spans"]) == {"all", "count", "exist"}
    rows = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert all(
        sorted(zip(*row["spans"].values(), strict=True))[0] in ((0, 1), (1, 0)) for row in rows
    )  # one span alone
    run("--conf", conf, "predict", "--split", "val")
    lines = Path(capsys.readouterr().out.strip()).read_text().splitlines()
    assert lines == [row["answer"] for row in rows]
    # both splits together: a picture's number says nothing, its name does
    both = f"data.train={data['train']},{data['val']}"
    run("--conf", conf, "--set", both, "--set", "data.val=null", "--work_dir", tmp_path / "both", "train")
    assert "train: 32 questions about 16 pictures" in text(capsys, conf, both, "data.val=null")


def text(capsys: pytest.CaptureFixture[str], conf: Path, *settings: str) -> str:
    capsys.readouterr()
    run("--conf", conf, *(part for one in settings for part in ("--set", one)), "doctor")
    return capsys.readouterr().out


def vqa_files(folder: Path) -> dict[str, Any]:
    """Splits train and val with grids of up to 4 x 4 cells in .npy, and Visual Genome's questions about the former."""
    (folder / "grids").mkdir()
    for split, first in (("train2014", 0), ("val2014", 8)):
        questions, notes = [], []
        for number in range(first, first + 8):
            # the last row of cells of some pictures is missing
            np.save(folder / "grids" / f"COCO_{split}_{number:012d}.jpg.npy", cells(16 if number % 2 else 12))
            questions.append({"question_id": number, "image_id": number, "question": f"what is {number}?"})
            answers = [{"answer": "dog" if n < 7 else "cat", "answer_id": n + 1} for n in range(10)]
            notes.append({"question_id": number, "answers": answers, "answer_type": "other", "question_type": "what"})
        head = {"data_type": "mscoco", "data_subtype": split}
        (folder / f"{split}.json").write_text(json.dumps(head | {"questions": questions}))
        (folder / f"{split}_a.json").write_text(json.dumps(head | {"annotations": notes}))
    vg = [{"question_id": 100 + n, "image_id": n, "question": "who?"} for n in range(8)]
    (folder / "vg.json").write_text(json.dumps({"questions": vg}))
    named = [{"question_id": 100 + n, "answers": [{"answer": "man", "answer_id": 1}]} for n in range(8)]
    (folder / "vg_a.json").write_text(json.dumps({"annotations": named}))
    run("features", "import", folder / "grids", "--out", folder / "f", "--naming", "{number}")
    return {"format": "vqa", "features": str(folder / "f"), "image_ids": "number", "normalise": "vqa"}


def test_vqa_with_train_val_and_visual_genome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vqa_files(tmp_path) | {"demo_images": 3000}
    names = ("train2014", "val2014", "vg")
    files = {"train": ",".join(f"{tmp_path}/{name}.json" for name in names)}
    files["train_answers"] = ",".join(f"{tmp_path}/{name}_a.json" for name in names)
    model = {"vocabulary": files["train"]}
    conf = conf_file(tmp_path, network={"grid": 4}, model=model, data=data | files, train={"max_steps": 2})
    assert "train: 24 questions about 16 pictures" in text(capsys, conf)
    run("--conf", conf, "train")
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert json.loads((checkpoint / "answers.json").read_text()) == ["dog", "man"]
    assert json.loads((checkpoint / "words.json").read_text())[3:6] == ["what", "is", "0"]
    val = (f"data.val={tmp_path}/val2014.json", f"data.val_answers={tmp_path}/val2014_a.json")
    capsys.readouterr()
    run("--conf", conf, *(part for one in val for part in ("--set", one)), "eval")
    scores = json.loads(capsys.readouterr().out)
    assert scores["n_questions"] == 8
    assert 0 <= scores["accuracy"] <= 1


def test_features_that_say_of_no_grid_need_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"train": f"{tmp_path}/train2014.json", "train_answers": f"{tmp_path}/train2014_a.json"}
    data = vqa_files(tmp_path) | files | {"demo_images": 3000}
    arguments = ["--conf", str(conf_file(tmp_path, data=data)), "train"]
    assert finetune.main(arguments) == 2
    assert "set model.config.grid" in capsys.readouterr().err
