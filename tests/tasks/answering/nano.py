"""A nano LXMERT on a few drawn questions, and its configuration."""

import json
from pathlib import Path
from typing import Any

NETWORK = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "l_layers": 1,
    "x_layers": 1,
    "r_layers": 1,
    "max_position_embeddings": 24,
}
DRAWN = {"format": "demo", "demo_images": 28}
TRAIN = {
    "max_epochs": 6,
    "batch_size": 16,
    "lr": 0.005,
    "loss": "cross-entropy",
    "dropout": 0.0,
    "dtype": "float32",
    "tensorboard": False,
    "log_every": 1,
    "schedule": "constant",
}


def nano(folder: Path, **sections: dict[str, Any]) -> Path:
    """A configuration file for a run in `folder`/run; `sections` add to its sections."""
    document: dict[str, Any] = {
        "task": "visual-question-answering",
        "work_dir": str(folder / "run"),
        "model": {"vocabulary": "train", "config": NETWORK} | sections.get("model", {}),
        "data": sections.get("data", DRAWN),
        "train": TRAIN | sections.get("train", {}),
        "eval": {"batch_size": 64, "bootstrap": 20} | sections.get("eval", {}),
    }
    file = folder / "conf.json"
    file.write_text(json.dumps(document))
    return file


def drawn_files(folder: Path) -> dict[str, Any]:
    """The section `data` of the drawn set as if it were one's own files, in `folder`/drawn."""
    from data.demo.questions import render_questions

    root = folder / "drawn"
    render_questions(root, images=28, seed=7, per_image=4)
    files = {split: str(root / f"questions_{split}.jsonl") for split in ("train", "val", "test")}
    return {"format": "plain", **files, "features": str(root / "regions"), "images": str(root / "images")}
